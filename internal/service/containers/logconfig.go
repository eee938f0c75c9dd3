package containers

import (
	"iter"
	"maps"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/gantry-engine/gantry/internal/spec"
)

// logConfig is what the keeper is told about the log.
func (c *creator) logConfig(rec *Container) spec.LogConfig {
	lc := rec.HostConfig.LogConfig
	out := spec.LogConfig{Driver: lc.Type, Options: lc.Config, Attrs: logAttrs(rec)}
	switch lc.Type {
	case "json-file":
		out.Path = filepath.Join(c.Config.dir(rec), rec.ID+"-json.log")
	case "local":
		out.Path = filepath.Join(c.Config.dir(rec), "local-logs", "container.log")
	}
	return out
}

// logAttrs picks the labels and environment that --log-opt labels=… env=… name.
func logAttrs(rec *Container) map[string]string {
	opts := rec.HostConfig.LogConfig.Config
	attrs := map[string]string{}
	for _, k := range strings.Split(opts["labels"], ",") {
		if v, ok := rec.Config.Labels[k]; ok && k != "" {
			attrs[k] = v
		}
	}
	addMatches(attrs, opts["labels-regex"], maps.All(rec.Config.Labels))
	env := map[string]string{}
	for _, e := range rec.Config.Env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	for _, k := range strings.Split(opts["env"], ",") {
		if v, ok := env[k]; ok && k != "" {
			attrs[k] = v
		}
	}
	addMatches(attrs, opts["env-regex"], maps.All(env))
	if opts["tag"] != "" {
		attrs["tag"] = expandTag(opts["tag"], rec)
	}
	if len(attrs) == 0 {
		return nil
	}
	return attrs
}

// addMatches copies the pairs whose name matches the expression.
func addMatches(dst map[string]string, expr string, pairs iter.Seq2[string, string]) {
	if expr == "" {
		return
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return // Logs.Validate has refused it at create
	}
	for k, v := range pairs {
		if re.MatchString(k) {
			dst[k] = v
		}
	}
}

// expandTag fills the placeholders of --log-opt tag.
func expandTag(tag string, rec *Container) string {
	imageID := strings.TrimPrefix(rec.Image.ID, "sha256:")
	return strings.NewReplacer(
		"{{.ID}}", rec.ID[:12], "{{.FullID}}", rec.ID, "{{.Name}}", rec.Name,
		"{{.ImageID}}", imageID[:min(12, len(imageID))], "{{.ImageFullID}}", rec.Image.ID, "{{.ImageName}}", rec.Config.Image,
		"{{.DaemonName}}", "docker",
	).Replace(tag)
}
