package containers

import (
	"maps"
	"net/url"
	"slices"
)

// appendAttrs writes a log entry's attributes as "logs --details" shows them: a=b,c=d.
func appendAttrs(line []byte, attrs map[string]string) []byte {
	for i, k := range slices.Sorted(maps.Keys(attrs)) {
		if i > 0 {
			line = append(line, ',')
		}
		line = append(line, url.QueryEscape(k)...)
		line = append(line, '=')
		line = append(line, url.QueryEscape(attrs[k])...)
	}
	return line
}
