// Package events serves GET /events.
package events

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	service "github.com/gantry-engine/gantry/internal/service/events"
)

// Service is what the route needs.
type Service interface {
	Subscribe(q service.Query) (*service.Subscription, error)
}

type router struct{ s Service }

// New makes the routes.
func New(s Service) httpapi.Router { return router{s} }

func (rt router) Routes() []httpapi.Route {
	return []httpapi.Route{{Method: http.MethodGet, Path: "/events", Handler: rt.events}}
}

// legacy is an event with the fields that were dropped from API 1.52 on.
type legacy struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func (rt router) events(ctx context.Context, w http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	now := time.Now()
	var q service.Query
	var err error
	if q.Since, err = service.ParseTime(r.FormValue("since"), now); err != nil {
		return err
	}
	if q.Until, err = service.ParseTime(r.FormValue("until"), now); err != nil {
		return err
	}
	if q.Filters, err = filters.Parse(r.FormValue("filters")); err != nil {
		return err
	}
	sub, err := rt.s.Subscribe(q)
	if err != nil {
		return err
	}
	defer sub.Close()
	old := httpapi.VersionLess(httpapi.Version(ctx), "1.52")
	kind := mediaType(r.Header.Get("Accept"), httpapi.Version(ctx))
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	if err := flush.Flush(); err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for {
		m, err := sub.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if kind == "application/json-seq" {
			if _, err := w.Write([]byte{0x1e}); err != nil { // RFC 7464's record separator
				return err
			}
		}
		if httpapi.VersionLess(httpapi.Version(ctx), "1.30") {
			m.Scope = ""
		}
		if err := enc.Encode(shape(m, old)); err != nil {
			return err
		}
		if err := flush.Flush(); err != nil {
			return err
		}
	}
}

func shape(m events.Message, old bool) any {
	if !old {
		return m
	}
	l := legacy{Message: m}
	switch m.Type {
	case events.ContainerEventType:
		l.Status, l.ID, l.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	case events.ImageEventType:
		l.Status, l.ID = string(m.Action), m.Actor.ID
	}
	return l
}

// mediaType picks the stream's form; clients that do not ask get what they always got.
func mediaType(accept, version string) string {
	if !httpapi.VersionLess(version, "1.52") {
		for part := range strings.SplitSeq(accept, ",") {
			t, _, _ := strings.Cut(strings.TrimSpace(part), ";")
			switch t {
			case "application/x-ndjson", "application/json-seq":
				return t
			case "application/jsonl":
				if !httpapi.VersionLess(version, "1.53") {
					return t
				}
			}
		}
	}
	return "application/json"
}
