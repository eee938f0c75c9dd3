// Package crash kills the engine's processes under load, at random instants and
// at failpoints, and checks what must never happen: a running container that
// dies, a line of output lost or doubled, a broken connection to a published
// port, a wrong exit code.
//
// GANTRY_CRASH_SEED repeats a run, GANTRY_CRASH_KILLS sets how many kills.
package crash
