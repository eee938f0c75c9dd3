// Package crash kills the engine's processes under load, at every failpoint and
// at random instants, and checks what must never happen: a running container that
// dies, a line of output lost or doubled, a broken connection to a published
// port, a wrong exit code, a restart policy or auto-remove that is not honoured, anything
// left behind: a mount, a cgroup, a veth, a packet rule, a port, a process, a file, a descriptor.
//
// The executables are built here with the tag "failpoints" (see internal/kit/failpoint). TestFailpoints
// reads the points from the source, finds out which scenario reaches which, and kills
// at each: {itself, gantryd, keeper, gantryd and keeper, anchor, keeper and anchor}. A point that is never
// reached fails. TestRandomKills kills without regard to where.
//
//	GANTRY_CRASH_SEED=n       repeats a run: its choices, not the machine's timing
//	GANTRY_CRASH_MATRIX=all   every point × every set of victims; else each point once, the victims in turn
//	GANTRY_CRASH_POINT=regex  only points whose names match it
//	GANTRY_CRASH_KILLS=n      how many random kills
//	GANTRY_FAILPOINTS_BIN=dir where the executables are built; else bin/failpoints
package crash
