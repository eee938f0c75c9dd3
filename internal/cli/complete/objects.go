package complete

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

// patience bounds how long a shell waits for an engine that does not answer.
const patience = 2 * time.Second

// objects proposes names of what a command works on; files is true where none are known.
func objects(ctx context.Context, a *app.App, cmd *app.Command, given []string, last string) (words []string, files bool) {
	kind := strings.Fields(cmd.Args)
	what := ""
	for _, w := range kind {
		w = strings.Trim(w, "[].")
		for _, k := range []string{"CONTAINER", "IMAGE", "VOLUME", "NETWORK", "CONTEXT", "SOURCE_IMAGE"} {
			if w == k || strings.HasPrefix(w, k+":") || strings.HasPrefix(w, k+"[") {
				what = k
			}
		}
		if what != "" {
			break
		}
	}
	repeats := strings.Contains(cmd.Args, "...]") && cmd.Name != "run" && cmd.Name != "exec" && cmd.Name != "create"
	if what == "" || len(given) > 0 && !repeats {
		return nil, true
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	names := list(ctx, a, what, cmd.Name)
	for _, n := range names {
		if strings.HasPrefix(n, last) && !slices.Contains(given, n) {
			words = append(words, n)
		}
	}
	return words, false
}

func list(ctx context.Context, a *app.App, what, verb string) (names []string) {
	if what == "CONTEXT" {
		all, _ := a.Contexts().List()
		for _, c := range all {
			names = append(names, c.Name)
		}
		return append(names, "default")
	}
	c, err := a.Client()
	if err != nil {
		return nil
	}
	switch what {
	case "CONTAINER":
		return containers(ctx, c, verb)
	case "IMAGE", "SOURCE_IMAGE":
		var l []image.Summary
		_ = c.Get(ctx, "/images/json", nil, &l)
		for _, i := range l {
			names = append(names, i.RepoTags...)
		}
	case "VOLUME":
		var l volume.ListResponse
		_ = c.Get(ctx, "/volumes", nil, &l)
		for _, v := range l.Volumes {
			names = append(names, v.Name)
		}
	case "NETWORK":
		var l []network.Network
		_ = c.Get(ctx, "/networks", nil, &l)
		for _, n := range l {
			names = append(names, n.Name)
		}
	}
	return names
}

func containers(ctx context.Context, c *api.Client, verb string) (names []string) {
	q := url.Values{"all": {"1"}}
	switch verb {
	case "exec", "attach", "stop", "kill", "pause", "top":
		q = url.Values{}
	}
	var l []container.Summary
	_ = c.Get(ctx, "/containers/json", q, &l)
	for _, s := range l {
		for _, n := range s.Names {
			names = append(names, strings.TrimPrefix(n, "/"))
		}
	}
	return names
}
