package main

import "time"

// steps tells the calls of a life cycle apart: median and minimum of each.
func steps(b *bench) ([]result, error) {
	a := api{b.ours.HTTP()}
	names := []string{"create", "start", "wait", "delete"}
	took := make([]sample, len(names))
	for range b.n {
		var c created
		t := time.Now()
		if err := a.call("POST", "/containers/create", map[string]any{"Image": "bb", "Cmd": []string{"true"}}, &c); err != nil {
			return nil, err
		}
		took[0] = append(took[0], time.Since(t))
		for i, call := range [][2]string{{"POST", "/start"}, {"POST", "/wait"}, {"DELETE", ""}} {
			t = time.Now()
			if err := a.call(call[0], "/containers/"+c.ID+call[1], nil, nil); err != nil {
				return nil, err
			}
			took[i+1] = append(took[i+1], time.Since(t))
		}
	}
	var rs []result
	for i, n := range names {
		rs = append(rs, result{what: "– " + n + " (median / minimum)", ours: ms(took[i].median()) + " / " + ms(took[i].quantile(0))})
	}
	return rs, nil
}
