package cache

import (
	"cmp"
	"slices"
	"strings"

	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// order is that of tags, in which upper and lower case are one.
func order(a, b string) int {
	return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
}

// page cuts a piece out of a list of tags.
func page(all []string, last string, n int) (tags []storage.Tag, more bool, err error) {
	slices.SortFunc(all, order)
	for _, t := range all {
		if last != "" && order(t, last) <= 0 {
			continue
		}
		if len(tags) == n {
			return tags, true, nil
		}
		tags = append(tags, storage.Tag{Name: t})
	}
	return tags, false, nil
}
