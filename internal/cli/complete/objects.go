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
	"github.com/gantry-engine/gantry/internal/cli/bootstrap"
)

// patience bounds how long a shell waits for an engine that does not answer.
const patience = 2 * time.Second

// kinds are the words of usage lines that name objects. A name that goes on with ":" is a path in a container.
var kinds = []string{"CONTAINER:", "CONTAINER", "SOURCE_IMAGE", "IMAGE", "VOLUME", "NETWORK", "CONTEXT", "NAME|ID", "DISTRO"}

// wanted reads from the usage line what stands in the place of argument n, counted from 0.
func wanted(usage string, n int) string {
	var places []string
	for _, w := range strings.Fields(usage) {
		if w != "[OPTIONS]" {
			places = append(places, w)
		}
	}
	if len(places) == 0 {
		return ""
	}
	if last := len(places) - 1; n > last {
		if !strings.Contains(places[last], "...") {
			return ""
		}
		n = last
	}
	place := strings.TrimPrefix(places[n], "[")
	for _, k := range kinds {
		if strings.HasPrefix(place, k) {
			return k
		}
	}
	return ""
}

// objects proposes names of what a command works on; files where none are known.
func objects(ctx context.Context, a *app.App, cmd *app.Command, given []string, last string) proposal {
	what := wanted(cmd.Args, len(given))
	if cmd.Usage2 != "" { // cp: a container on either side, files on the other
		what = "CONTAINER:"
	}
	if what == "" {
		return proposal{files: true}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p := proposal{files: what == "CONTAINER:", unfinished: what == "CONTAINER:"}
	for _, n := range list(ctx, a, what, cmd.Name) {
		if !slices.Contains(given, n) {
			p.words = append(p.words, n)
		}
	}
	return p.only(last)
}

func list(ctx context.Context, a *app.App, what, verb string) (names []string) {
	if what == "DISTRO" {
		return bootstrap.Known()
	}
	if what == "CONTEXT" {
		all, _ := a.Home.Contexts().List()
		for _, c := range all {
			names = append(names, c.Name)
		}
		return append(names, "default")
	}
	c, err := a.Engine.Client()
	if err != nil {
		return nil
	}
	switch what {
	case "CONTAINER":
		return containers(ctx, c, verb)
	case "CONTAINER:":
		for _, n := range containers(ctx, c, verb) {
			names = append(names, n+":")
		}
	case "NAME|ID":
		for _, kind := range []string{"CONTAINER", "IMAGE", "NETWORK", "VOLUME"} {
			names = append(names, list(ctx, a, kind, verb)...)
		}
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
	case "exec", "attach", "stop", "kill", "pause", "top", "stats", "port":
		q = url.Values{}
	case "start":
		q.Set("filters", `{"status":["created","exited"]}`)
	case "unpause":
		q.Set("filters", `{"status":["paused"]}`)
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
