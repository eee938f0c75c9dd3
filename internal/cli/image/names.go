package image

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// escape writes an image's name as part of a path: its slashes stay.
func escape(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// addPlatforms writes os[/arch[/variant]] values as the JSON objects the API takes.
func addPlatforms(q url.Values, key string, list []string) error {
	for _, p := range list {
		parts := strings.Split(strings.ToLower(p), "/")
		if len(parts) > 3 || parts[0] == "" {
			return fmt.Errorf("invalid platform %q: it has the form os[/arch[/variant]]", p)
		}
		m := map[string]string{"os": parts[0]}
		if len(parts) > 1 {
			m["architecture"] = parts[1]
		}
		if len(parts) > 2 {
			m["variant"] = parts[2]
		}
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		q.Add(key, string(b))
	}
	return nil
}
