// Package e2e drives whole engines as a user would: the first run, bad input and
// faults with nothing left behind, the known runtime escapes, counts of program
// starts and syncs, the daemon under the name dockerd.
package e2e
