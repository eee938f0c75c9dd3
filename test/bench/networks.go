package main

import (
	"errors"
	"fmt"
	"time"
)

// networks times the life of a network over the API, and starts on several networks.
func networks(b *bench) ([]result, error) {
	steps := []string{"create", "connect", "disconnect", "delete"}
	calls := result{what: "network create / connect / disconnect / delete, API", bar: "≤ 5 ms each", cells: map[string]string{}}
	starts := result{what: "start and removal of a container on 1 / 3 / 10 networks", bar: "linear", cells: map[string]string{}}
	took := map[string][]sample{}
	for _, e := range b.engines {
		if e.name == "podman" { // its API has networks of its own kind
			continue
		}
		var err error
		if took[e.name], err = e.networkCalls(e.repeats(b.n, 10, 5)); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		text := ""
		for i := range steps {
			if text += ms(took[e.name][i].median()); i < len(steps)-1 {
				text += " / "
			}
		}
		calls.cells[e.name] = text
		if starts.cells[e.name], err = e.startsOn(e.repeats(b.n/2, 10, 3), 1, 3, 10); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if docker, ours := took["docker"], took[b.ours().name]; docker != nil {
		for i := range steps {
			if i > 0 {
				calls.ratio += " / "
			}
			calls.ratio += fmt.Sprintf("%.0f", float64(docker[i].median())/float64(ours[i].median()))
		}
		calls.ratio += "× faster"
	}
	return []result{calls, starts}, nil
}

// networkCalls makes a network n times, connects a running container to it and disconnects it, and removes it.
func (e *engine) networkCalls(n int) (took []sample, err error) {
	id, err := e.api.create("", nil, "sleep", "3600")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.api.remove(id)) }()
	if err := e.api.start(id); err != nil {
		return nil, err
	}
	took = make([]sample, 4)
	for i := range n {
		name := fmt.Sprintf("bench-%d", i)
		for step, call := range []func() error{
			func() error {
				return e.api.call("POST", "/networks/create", map[string]any{"Name": name, "CheckDuplicate": true}, nil)
			},
			func() error {
				return e.api.call("POST", "/networks/"+name+"/connect", map[string]any{"Container": id}, nil)
			},
			func() error {
				return e.api.call("POST", "/networks/"+name+"/disconnect", map[string]any{"Container": id}, nil)
			},
			func() error { return e.api.call("DELETE", "/networks/"+name, nil, nil) },
		} {
			t := time.Now()
			if err := call(); err != nil {
				return nil, err
			}
			took[step] = append(took[step], time.Since(t))
		}
		time.Sleep(20 * time.Millisecond) // what goes on behind the answers
	}
	return took, nil
}

// startsOn gives the medians of a start and forced removal, on so many networks.
func (e *engine) startsOn(n int, counts ...int) (text string, err error) {
	most := 0
	for _, c := range counts {
		most = max(most, c)
	}
	for i := range most {
		name := fmt.Sprintf("on-%d", i)
		if err := e.api.call("POST", "/networks/create", map[string]any{"Name": name}, nil); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, e.api.call("DELETE", "/networks/"+name, nil, nil)) }()
	}
	for _, c := range counts {
		var s sample
		for range n {
			id, err := e.api.create("", map[string]any{"HostConfig": map[string]any{"NetworkMode": "on-0"}}, "sleep", "3600")
			if err != nil {
				return "", err
			}
			for i := 1; i < c; i++ {
				if err := e.api.call("POST", fmt.Sprintf("/networks/on-%d/connect", i), map[string]any{"Container": id}, nil); err != nil {
					return "", err
				}
			}
			t := time.Now()
			if err := errors.Join(e.api.start(id), e.api.remove(id)); err != nil {
				return "", err
			}
			s = append(s, time.Since(t))
			time.Sleep(20 * time.Millisecond)
		}
		if text != "" {
			text += " / "
		}
		text += ms(s.median())
	}
	return text, nil
}
