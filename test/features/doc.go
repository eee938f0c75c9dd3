// Package features makes docs/features.md: a row for every command and flag of
// the command line, every endpoint and parameter of the API, every field of a
// container's creation and every flag of the daemon, with its test and the proof
// of that test.
//
// rows/*.txt hold the rows. Each block is a shell script that asserts an option's
// effect, on the host or inside a container, for the rows named in its head line:
//
//	== POST /containers/create .HostConfig.Memory + run --memory
//	run -m 64m bb cat $CG/memory/memory.limit_in_bytes
//	> 67108864
//	! internal/service/containers/ocispec/resources.go | Limit: nonzero(«r.Memory»)
//
//	==  the rows; rows of the API run with the official client, rows of the command
//	    line with ours in its place. "run --x" stands for "create --x" too.
//	>   what the script prints; without such lines only its exit status counts
//	!   the code that gives the effect: in the proof the expression between the marks
//	    is replaced by its zero value (or by what follows "=>"), a statement left out.
//	    Rows without it lose their input instead: the flag, the parameter, the field or
//	    the route is taken away before our code sees it
//	%   flags of the daemon that the block's own engine is started with
//	@   a state other than "works": "not yet" (the script shows the refusal by name),
//	    "no effect" (accepted, and why nothing follows), or "unproven" (it works, and why
//	    no proof can be had where these tests run)
//
// TestTable runs every block. TestProof (GANTRY_FEATURES_PROOF=1, `make
// features-proof`) builds a copy of the tree that holds all mutations behind one
// switch, turns them on one after the other, and demands that the row's script
// fails; proof.tsv keeps what it found, by a hash of script and mutated line.
package features
