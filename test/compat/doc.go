// Package compat runs the same scenarios, through the official docker client,
// against Debian's dockerd and against gantryd, and compares what a user sees:
// exit code, standard output, standard error, and inspect JSON.
//
// Scenarios are text (scenarios/*.txt): a line "== name", then one shell command
// a line. Each command's three results are recorded, made comparable (IDs, times
// and addresses become placeholders) and compared between the engines. Where
// Debian's old daemon and the API description of v1.56 differ, the description
// wins and the difference stands in exceptions.txt with its reason.
package compat
