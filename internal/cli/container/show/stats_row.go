package show

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/format"
)

// statsEntry collects one container's figures.
type statsEntry struct {
	container string
	first     chan struct{}
	once      sync.Once

	mu    sync.Mutex
	valid bool
	err   error
	last  StatsRow
}

func (e *statsEntry) collect(ctx context.Context, c *api.Client, stream bool) {
	defer e.once.Do(func() { close(e.first) })
	q := url.Values{"stream": {"0"}}
	if stream {
		q.Set("stream", "1")
	}
	for ctx.Err() == nil {
		err := e.read(ctx, c, q)
		e.mu.Lock()
		e.err, e.valid = err, e.valid && err == nil
		e.mu.Unlock()
		e.once.Do(func() { close(e.first) })
		if !stream || api.IsNotFound(err) {
			return
		}
		time.Sleep(time.Second)
	}
}

func (e *statsEntry) read(ctx context.Context, c *api.Client, q url.Values) error {
	body, err := c.Stream(ctx, "/containers/"+url.PathEscape(e.container)+"/stats", q)
	if err != nil {
		return err
	}
	defer body.Close()
	dec := json.NewDecoder(body)
	for {
		var s container.StatsResponse
		if err := dec.Decode(&s); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		row := figures(s)
		e.mu.Lock()
		e.last, e.valid, e.err = row, true, nil
		e.mu.Unlock()
		e.once.Do(func() { close(e.first) })
	}
}

func (e *statsEntry) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

func (e *statsEntry) row(trunc bool) *StatsRow {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.last
	r.container, r.trunc, r.invalid = e.container, trunc, !e.valid
	return &r
}

var statsHeader = map[string]string{"Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %",
	"NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS"}

// StatsRow is one container's figures at a moment.
type StatsRow struct {
	format.Row
	container, id, name     string
	cpu, mem, limit, memPct float64
	rx, tx, read, write     float64
	pids                    uint64
	trunc, invalid          bool
}

func figures(s container.StatsResponse) StatsRow {
	r := StatsRow{id: s.ID, name: strings.TrimPrefix(s.Name, "/"), pids: s.PidsStats.Current, limit: float64(s.MemoryStats.Limit)}
	cpu := float64(s.CPUStats.CPUUsage.TotalUsage) - float64(s.PreCPUStats.CPUUsage.TotalUsage)
	system := float64(s.CPUStats.SystemUsage) - float64(s.PreCPUStats.SystemUsage)
	online := float64(s.CPUStats.OnlineCPUs)
	if online == 0 {
		online = float64(len(s.CPUStats.CPUUsage.PercpuUsage))
	}
	if system > 0 && cpu > 0 {
		r.cpu = cpu / system * online * 100
	}
	// Cache that can be dropped at any time is not counted: total_inactive_file on cgroup v1, inactive_file on v2.
	m := s.MemoryStats
	r.mem = float64(m.Usage)
	if v, v1 := m.Stats["total_inactive_file"]; v1 && v < m.Usage {
		r.mem = float64(m.Usage - v)
	} else if v := m.Stats["inactive_file"]; !v1 && v < m.Usage {
		r.mem = float64(m.Usage - v)
	}
	if r.limit != 0 {
		r.memPct = r.mem / r.limit * 100
	}
	for _, n := range s.Networks {
		r.rx += float64(n.RxBytes)
		r.tx += float64(n.TxBytes)
	}
	for _, b := range s.BlkioStats.IoServiceBytesRecursive {
		if b.Op == "" {
			continue
		}
		switch b.Op[0] {
		case 'r', 'R':
			r.read += float64(b.Value)
		case 'w', 'W':
			r.write += float64(b.Value)
		}
	}
	return r
}

// Container is what the container was asked for by.
func (r *StatsRow) Container() string { return r.container }

// ID is the container's id.
func (r *StatsRow) ID() string {
	if r.trunc {
		return format.ShortID(r.id)
	}
	return r.id
}

// Name is the container's name.
func (r *StatsRow) Name() string {
	if r.name == "" {
		return "--"
	}
	return r.name
}

// CPUPerc is the share of one CPU.
func (r *StatsRow) CPUPerc() string { return r.text("%.2f%%", r.cpu) }

// MemUsage is memory in use and its limit.
func (r *StatsRow) MemUsage() string {
	if r.invalid {
		return "-- / --"
	}
	return units.BytesSize(r.mem) + " / " + units.BytesSize(r.limit)
}

// MemPerc is the share of the limit.
func (r *StatsRow) MemPerc() string { return r.text("%.2f%%", r.memPct) }

// NetIO is bytes received and sent.
func (r *StatsRow) NetIO() string { return r.pair(r.rx, r.tx) }

// BlockIO is bytes read and written.
func (r *StatsRow) BlockIO() string { return r.pair(r.read, r.write) }

// PIDs is the number of processes.
func (r *StatsRow) PIDs() string {
	if r.invalid {
		return "--"
	}
	return fmt.Sprint(r.pids)
}

func (r *StatsRow) text(f string, v float64) string {
	if r.invalid {
		return "--"
	}
	return fmt.Sprintf(f, v)
}

func (r *StatsRow) pair(x, y float64) string {
	if r.invalid {
		return "--"
	}
	return units.HumanSizeWithPrecision(x, 3) + " / " + units.HumanSizeWithPrecision(y, 3)
}
