package main

import (
	"encoding/json"
	"fmt"

	"github.com/gantry-engine/gantry/internal/config"
)

// reloadAttributes is what the event "daemon reload" carries.
func reloadAttributes(name string, c *config.Config) map[string]string {
	list := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	return map[string]string{
		"name": name, "debug": fmt.Sprint(c.Debug), "labels": list(c.Labels), "live-restore": fmt.Sprint(c.LiveRestore),
		"max-concurrent-downloads": fmt.Sprint(c.MaxDownloads), "max-concurrent-uploads": fmt.Sprint(c.MaxUploads),
		"max-download-attempts": fmt.Sprint(c.MaxRetries), "default-runtime": c.DefaultRuntime, "default-shm-size": fmt.Sprint(c.DefaultShmSize),
		"default-registry": c.DefaultRegistry, "image-policy": c.ImagePolicy, "insecure-registries": list(c.InsecureRegistries), "registry-mirrors": list(c.RegistryMirrors), "shutdown-timeout": fmt.Sprint(c.ShutdownTimeout),
	}
}
