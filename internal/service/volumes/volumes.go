package volumes

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/keylock"
	"github.com/gantry-engine/gantry/internal/spec"
)

// AnonymousLabel marks volumes without a name of a user's choosing.
const AnonymousLabel = "com.docker.volume.anonymous"

// DriverName is the only volume driver so far.
const DriverName = "local"

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// Service is the door to the use cases of volumes. See New.
type Service struct {
	records Records
	driver  Driver
	content Content
	events  Events
	now     func() time.Time
	locks   keylock.Locker // by name; held while changing a volume

	mu      sync.RWMutex
	volumes map[string]*entry
	// mounted tells which containers have a volume among their mounts, running or not. See SetUsers.
	mounted func(name string) []string
}

// entry is a volume in memory. vol is replaced, never changed; holders is under Service.mu.
type entry struct {
	vol     spec.Volume
	holders map[string]int // container IDs, with how many mounts each has
	damaged error          // why its record cannot be used
}

// New reads the records and finishes what a crash interrupted. Nothing is deleted
// because a record is missing or cannot be read.
func New(ctx context.Context, r Records, d Driver, c Content, ev Events) (*Service, error) {
	s := &Service{
		records: r, driver: d, content: c, events: ev, now: time.Now, volumes: map[string]*entry{},
		mounted: func(string) []string { return nil },
	}
	for name, data := range r.All(ctx) {
		e := &entry{vol: spec.Volume{Name: name, Driver: DriverName}, holders: map[string]int{}}
		var v spec.Volume
		if err := json.Unmarshal(data, &v); err != nil || v.Name != name {
			slog.Error("a volume's record cannot be read: its content is left alone, and it cannot be used", "volume", name, "error", err)
			e.damaged = classed.Errorf(errdefs.ErrDataLoss, "the record of the volume %s is damaged, so that its options are not known: its content is at %s; remove the volume, or copy the content to another one", name, d.Path(name))
		} else {
			e.vol = v
		}
		e.vol.Mountpoint = d.Path(name)
		s.volumes[name] = e
	}
	kept, err := c.Sweep(ctx, func(name string) bool { return s.volumes[name] != nil })
	if err != nil { // no reason not to start: the next sweep tries again
		slog.Error("what interrupted changes of volumes left could not be cleaned up", "error", err)
	}
	for _, name := range kept {
		slog.Warn("a volume has content but no record and is not shown: create a volume of that name to have it back, or delete the folder", "volume", name, "folder", d.Path(name))
	}
	return s, context.Cause(ctx)
}

// SetUsers says how to find the containers, running or not, that have a volume among
// their mounts: such a volume is in use also when nobody holds it since the daemon's start.
// It must be called before requests are served.
func (s *Service) SetUsers(mounted func(name string) []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounted = mounted
}

func noSuch(name string) error {
	return classed.Errorf(errdefs.ErrNotFound, "get %s: no such volume", name)
}

// Get finds a volume by its name.
func (s *Service) Get(_ context.Context, name string) (spec.Volume, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.volumes[name]; e != nil {
		return e.vol, nil
	}
	return spec.Volume{}, noSuch(name)
}

// usable is Get, but for volumes whose record is damaged.
func (s *Service) usable(name string) (spec.Volume, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.volumes[name]
	if e == nil {
		return spec.Volume{}, noSuch(name)
	}
	return e.vol, e.damaged
}

// Ensure finds or creates a volume; an empty name makes an anonymous one. A
// volume of the same name with another driver or other options is errdefs.Conflict.
func (s *Service) Ensure(ctx context.Context, name, driver string, opts, labels map[string]string) (spec.Volume, error) {
	_, anonymous := labels[AnonymousLabel]
	if name == "" {
		anonymous = true
		b := make([]byte, 32)
		if _, err := rand.Read(b); err != nil {
			return spec.Volume{}, err
		}
		name = hex.EncodeToString(b)
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[AnonymousLabel] = ""
	}
	if driver == "" || driver == "default" {
		driver = DriverName
	}
	unlock, err := s.locks.Lock(ctx, name)
	if err != nil {
		return spec.Volume{}, err
	}
	defer unlock()
	v, err := s.usable(name)
	if err == nil {
		return v, sameKind(v, driver, opts)
	}
	if !errdefs.IsNotFound(err) {
		return spec.Volume{}, err
	}
	if err := validate(name, driver); err != nil {
		return spec.Volume{}, err
	}
	if err := s.content.Validate(opts); err != nil {
		return spec.Volume{}, fmt.Errorf("create %s: %w", name, err)
	}
	v = spec.Volume{
		Name: name, Driver: driver, Mountpoint: s.driver.Path(name), Labels: labels, Options: opts,
		Created: s.now().UTC(), Anonymous: anonymous,
	}
	return v, s.create(ctx, v)
}

func validate(name, driver string) error {
	if driver != DriverName {
		return classed.Errorf(errdefs.ErrNotFound, "error looking up volume plugin %s: plugin %q not found", driver, driver)
	}
	if len(name) > 255 || !validName.MatchString(name) {
		if len(name) == 1 {
			return classed.Errorf(errdefs.ErrInvalidArgument, "create %s: volume name is too short, names should be at least two alphanumeric characters", name)
		}
		return classed.Errorf(errdefs.ErrInvalidArgument, "create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name)
	}
	return nil
}

func sameKind(v spec.Volume, driver string, opts map[string]string) error {
	if v.Driver != driver {
		return classed.Errorf(errdefs.ErrConflict, "create %s: conflict: volume name must be unique: it exists with the driver %s", v.Name, v.Driver)
	}
	if len(opts) > 0 && !maps.Equal(v.Options, opts) {
		return classed.Errorf(errdefs.ErrConflict, "create %s: conflict: the volume exists with other options", v.Name)
	}
	return nil
}

// create makes the folder, then commits the record: a crash between the two leaves
// a marked folder that Sweep finds, never a record without a folder.
func (s *Service) create(ctx context.Context, v spec.Volume) error {
	keep, undo, err := s.driver.Create(ctx, v.Name, v.Options)
	if err != nil {
		return fmt.Errorf("create %s: %w", v.Name, err)
	}
	data, err := json.Marshal(v)
	if err == nil {
		err = s.records.Save(ctx, v.Name, data)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("create %s: %w", v.Name, err), undo())
	}
	if err := keep(); err != nil { // the mark is swept at the next start
		slog.Warn("the mark of a volume's creation could not be removed", "volume", v.Name, "error", err)
	}
	s.mu.Lock()
	s.volumes[v.Name] = &entry{vol: v, holders: map[string]int{}}
	s.mu.Unlock()
	s.publish(events.ActionCreate, v, nil)
	return nil
}

func (s *Service) publish(a events.Action, v spec.Volume, more map[string]string) {
	attrs := map[string]string{"driver": v.Driver}
	maps.Copy(attrs, more)
	s.events.Publish(events.Message{Type: events.VolumeEventType, Action: a, Actor: events.Actor{ID: v.Name, Attributes: attrs}})
}

// Acquire counts one more hold of the container on the volume, and mounts it at the first.
func (s *Service) Acquire(ctx context.Context, name, container string) (spec.Volume, error) {
	unlock, err := s.locks.Lock(ctx, name)
	if err != nil {
		return spec.Volume{}, err
	}
	defer unlock()
	v, err := s.usable(name)
	if err != nil {
		return v, err
	}
	// Mounting what is mounted does nothing: also after a restart of the daemon, whose counts begin at none.
	if err := s.driver.Mount(ctx, name, v.Options); err != nil {
		return v, fmt.Errorf("failed to mount local volume: %w", err)
	}
	s.mu.Lock()
	s.volumes[name].holders[container]++
	s.mu.Unlock()
	return v, nil
}

// Release undoes one Acquire; the last hold of all unmounts. Releasing what is not held is no error.
func (s *Service) Release(ctx context.Context, name, container string) error {
	unlock, err := s.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	e := s.volumes[name]
	if e == nil || e.holders[container] == 0 {
		s.mu.Unlock()
		return nil
	}
	if e.holders[container]--; e.holders[container] == 0 {
		delete(e.holders, container)
	}
	last := len(e.holders) == 0
	s.mu.Unlock()
	if last {
		if err := s.driver.Unmount(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Populate copies the image's content at path into an empty volume, once.
func (s *Service) Populate(ctx context.Context, name string, root spec.Rootfs, path string) error {
	unlock, err := s.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	v, err := s.usable(name)
	if err != nil {
		return err
	}
	if len(v.Options) > 0 {
		if err := s.driver.Mount(ctx, name, v.Options); err != nil {
			return err
		}
		defer func() {
			if len(s.holders(name)) == 0 {
				_ = s.driver.Unmount(context.WithoutCancel(ctx), name)
			}
		}()
	}
	if err := s.content.Populate(ctx, name, root, path); err != nil {
		return fmt.Errorf("filling the volume %s with the image's content at %s: %w", name, path, err)
	}
	return nil
}

// holders are the containers that hold the volume now.
func (s *Service) holders(name string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.volumes[name]; e != nil {
		return slices.Sorted(maps.Keys(e.holders))
	}
	return nil
}

// users are the containers that hold the volume or have it among their mounts, sorted.
func (s *Service) users(name string) []string {
	s.mu.RLock()
	mounted := s.mounted
	s.mu.RUnlock()
	ids := append(s.holders(name), mounted(name)...)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Remove deletes a volume that no container uses. force makes a missing one no error.
func (s *Service) Remove(ctx context.Context, name string, force bool) error {
	unlock, err := s.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	v, err := s.Get(ctx, name)
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	if ids := s.users(name); len(ids) > 0 {
		return classed.Errorf(errdefs.ErrConflict, "remove %s: volume is in use - [%s]", name, strings.Join(ids, ", "))
	}
	if err := s.remove(context.WithoutCancel(ctx), v); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// remove takes the folder out of sight, then the record away, then deletes: at no
// point is there a record without its folder, and a crash leaves what Sweep can tell.
func (s *Service) remove(ctx context.Context, v spec.Volume) error {
	if err := s.driver.Unmount(ctx, v.Name); err != nil {
		return err
	}
	keep, undo, err := s.driver.Remove(ctx, v.Name)
	if err != nil {
		return err
	}
	if err := s.records.Remove(ctx, v.Name); err != nil {
		return errors.Join(err, undo())
	}
	s.mu.Lock()
	delete(s.volumes, v.Name)
	s.mu.Unlock()
	s.publish(events.ActionDestroy, v, nil)
	return keep()
}
