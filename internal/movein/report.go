package movein

import "slices"

// Result is what became of an object.
type Result string

// The results.
const (
	Taken    Result = "taken"
	Present  Result = "present"  // it was here already
	Planned  Result = "planned"  // a dry run's
	LeftOut  Result = "left out" // nothing that could or should be taken
	Conflict Result = "conflict" // another of the name is here
	Failed   Result = "failed"
)

// Item is one object in the report.
type Item struct {
	Kind   string // image, network, volume, container, writable layer
	Name   string
	Result Result
	Size   int64 // bytes that were, or would be, copied
	Note   string
}

// bad says whether somebody has to look at it.
func (i Item) bad() bool { return i.Result == Failed || i.Result == Conflict }

// Report is what became of everything, in the order of the work.
type Report []Item

// Bad is how many objects failed or met another of their name.
func (r Report) Bad() int {
	n := 0
	for _, i := range r {
		if i.bad() {
			n++
		}
	}
	return n
}

func (r Report) has(kind, name string, results ...Result) bool {
	return slices.ContainsFunc(r, func(i Item) bool { return i.Kind == kind && i.Name == name && slices.Contains(results, i.Result) })
}
