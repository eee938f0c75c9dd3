package conformance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Category is one of the specification's four workflows.
type Category string

// The categories, in the specification's order.
const (
	Pull       Category = "Pull"
	Push       Category = "Push"
	Discovery  Category = "Content discovery"
	Management Category = "Content management"
)

// Level is how strongly the specification asks for something, in the words of RFC 2119.
type Level string

// The levels. What a registry may do is not held against it when it does not.
const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
	May    Level = "MAY"
)

// Case is one thing that the specification says of registries.
type Case struct {
	ID       string // "pull-blob-range"
	Category Category
	Level    Level
	Section  string // the heading of the specification's section
	Says     string // what stands there, in our words

	run func(*probe)
}

// Verdict is how a case ended.
type Verdict string

// The verdicts.
const (
	Pass   Verdict = "pass"
	Fail   Verdict = "fail"
	Absent Verdict = "absent" // the registry leaves out what it may leave out, and says so as it should
)

// Result is what a case found.
type Result struct {
	Case    Case
	Verdict Verdict
	Why     string // of a failure or an absence; the same for equal behaviour
}

// Target is the registry to judge. It has to let the client push, pull and, if it offers that, delete.
type Target struct {
	URL    string       // "http://127.0.0.1:5000"
	Client *http.Client // for authorization and certificates; nil is a plain one
	Prefix string       // of the repositories' names; "" is one made at random
}

// caseTime bounds one case: a registry that does not answer fails it.
const caseTime = 60 * time.Second

// Cases are all cases, in the order of the specification.
func Cases() []Case {
	return slices.Concat(
		pullManifests(), pullBlobs(), pullHeads(),
		pushBlobs(), pushChunks(), pushStatus(), pushMounts(), pushManifests(), pushSubjects(), pushNames(),
		listTags(), listReferrers(),
		deleteTags(), deleteManifests(), deleteBlobs(),
	)
}

// Run tries cases one after the other.
func Run(ctx context.Context, t Target, cases ...Case) []Result {
	if t.Client == nil {
		t.Client = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8, ExpectContinueTimeout: 5 * time.Second}}
		defer t.Client.CloseIdleConnections()
	}
	if t.Prefix == "" {
		var b [4]byte
		_, _ = rand.Read(b[:]) // it never fails
		t.Prefix = "conformance-" + hex.EncodeToString(b[:])
	}
	t.URL = strings.TrimSuffix(t.URL, "/")
	var out []Result
	for _, c := range cases {
		out = append(out, judge(ctx, t, c))
	}
	return out
}

// ended is how a probe ends a case before its last line.
type ended struct{}

func judge(ctx context.Context, t Target, c Case) (r Result) {
	ctx, cancel := context.WithTimeout(ctx, caseTime)
	defer cancel()
	// A registry that did not read all of a request ends the connection, maybe just when the next case would use it.
	t.Client.CloseIdleConnections()
	p := &probe{ctx: ctx, target: t, repo: t.Prefix + "/" + c.ID}
	defer func() {
		if e := recover(); e != nil && e != any(ended{}) {
			panic(e)
		}
		r = Result{Case: c, Verdict: Pass}
		switch {
		case len(p.problems) > 0:
			r.Verdict, r.Why = Fail, strings.Join(p.problems, "; ")
		case p.absence != "":
			r.Verdict, r.Why = Absent, p.absence
		}
	}()
	c.run(p)
	return r
}

// section gives cases the place where they stand.
func section(category Category, heading string, cases ...Case) []Case {
	for i := range cases {
		cases[i].Category, cases[i].Section = category, heading
	}
	return cases
}

func must(id, says string, run func(*probe)) Case {
	return Case{ID: id, Level: Must, Says: says, run: run}
}
func should(id, says string, run func(*probe)) Case {
	return Case{ID: id, Level: Should, Says: says, run: run}
}
func may(id, says string, run func(*probe)) Case {
	return Case{ID: id, Level: May, Says: says, run: run}
}

// fail notes that the registry does not keep what the case is about, and goes on.
func (p *probe) fail(format string, v ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, v...))
}

// stop notes it and ends the case.
func (p *probe) stop(format string, v ...any) {
	p.fail(format, v...)
	panic(ended{})
}

// absent ends a case about something that the registry does not offer and need not.
func (p *probe) absent(format string, v ...any) {
	p.absence = fmt.Sprintf(format, v...)
	panic(ended{})
}
