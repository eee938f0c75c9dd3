package spawn

import (
	"errors"

	"github.com/gantry-engine/gantry/runtime/program"
)

// Facts are what a launch needs at clone time, besides descriptors. They travel
// from the compiler to whoever clones as bytes (Encode, Decode).
type Facts struct {
	Namespaces  uint64   // CLONE_NEW… flags of namespaces to make (a cgroup namespace is init's)
	TimeOffsets string   // lines for timens_offsets, of a time namespace that is made
	Joins       []Join   // namespaces to join by path
	UIDMap      []string // "inside outside size" lines
	GIDMap      []string
	// Setgroups allows setgroups(2) in a user namespace made by an unprivileged parent.
	Setgroups bool
	Cgroup2   string   // directory on cgroup v2 to be born in, or empty
	Tasks     []string // tasks files on cgroup v1
	OOMFile   string
	// Exec joins everything of a target process first (by pidfd): these namespaces.
	TargetNamespaces uint64
	Terminal         bool
	// Trees are mounts to be made before the clone, init's descriptors behind those that it keeps.
	Trees []Tree
}

// Join is a namespace to enter: its kind as a CLONE_NEW… flag and a path.
type Join struct {
	Flag uint64
	Path string
}

// Tree is a bind mount that is made before the clone and handed to init as a descriptor: because it has an id
// mapping, which init can neither make nor set, or because init's user namespace may not get to the source.
type Tree struct {
	Source         string   // path on the host
	Recursive      bool     // with what is mounted below
	UIDMap, GIDMap []string // "inside outside size" lines; empty is no mapping
	MapRecursive   bool     // the mapping also for what is mounted below
	Shared         bool     // stays in the source's peer group rather than follow it
}

// Encode gives the facts as bytes.
func (f Facts) Encode() []byte {
	w := program.NewWriter().Begin(1)
	w.Num(f.Namespaces).Num(f.TargetNamespaces).Bool(f.Setgroups).Bool(f.Terminal).Str(f.Cgroup2).Str(f.OOMFile).Str(f.TimeOffsets)
	w.List(f.Tasks).List(f.UIDMap).List(f.GIDMap).Num(uint64(len(f.Joins)))
	for _, j := range f.Joins {
		w.Num(j.Flag).Str(j.Path)
	}
	w.Num(uint64(len(f.Trees)))
	for _, t := range f.Trees {
		w.Str(t.Source).Bool(t.Recursive).List(t.UIDMap).List(t.GIDMap).Bool(t.MapRecursive).Bool(t.Shared)
	}
	return w.Bytes()
}

// DecodeFacts reads what Encode wrote.
func DecodeFacts(b []byte) (Facts, error) {
	var f Facts
	r := program.Reader{Buf: b}
	if r.U32() != len(b) || r.Num() != program.Version {
		return f, errors.New("launch facts of another version of the engine")
	}
	_, o := r.Next()
	f.Namespaces, f.TargetNamespaces = o.Num(), o.Num()
	f.Setgroups, f.Terminal = o.Num() != 0, o.Num() != 0
	f.Cgroup2, f.OOMFile, f.TimeOffsets = string(o.Str()), string(o.Str()), string(o.Str())
	f.Tasks, f.UIDMap, f.GIDMap = strs(o.List()), strs(o.List()), strs(o.List())
	for n := o.Num(); n > 0 && !o.Bad; n-- {
		f.Joins = append(f.Joins, Join{Flag: o.Num(), Path: string(o.Str())})
	}
	for n := o.Num(); n > 0 && !o.Bad; n-- {
		f.Trees = append(f.Trees, Tree{Source: string(o.Str()), Recursive: o.Num() != 0, UIDMap: strs(o.List()), GIDMap: strs(o.List()),
			MapRecursive: o.Num() != 0, Shared: o.Num() != 0})
	}
	if r.Bad || o.Bad {
		return f, errors.New("launch facts are cut short")
	}
	return f, nil
}

func strs(l [][]byte) []string {
	if len(l) == 0 {
		return nil
	}
	s := make([]string, len(l))
	for i := range l {
		s[i] = string(l[i])
	}
	return s
}
