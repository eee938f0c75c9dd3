// Package conformance judges a registry by the OCI distribution specification, version 1.1: each case stands on one
// sentence of it, told here in our own words, and says whether a registry keeps it.
//
//	for _, r := range conformance.Run(ctx, conformance.Target{URL: "http://127.0.0.1:5000"}, conformance.Cases()...) {
//		fmt.Println(r.Case.ID, r.Verdict, r.Why)
//	}
//
// The life of a case: it gets a repository of its own, puts there what it needs, asks, and compares. What a case pushes is
// made from the repository's name, so nothing is shared, and a registry that is in use can be judged too. Cases of what a
// registry may leave out end with Absent when it says so in the way that the specification wants. Reasons name neither
// repositories nor digests: the same failure reads the same each time.
package conformance
