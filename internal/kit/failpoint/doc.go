// Package failpoint marks the steps at which crash tests kill a process. In the
// executables that are shipped it is nothing: Hit is an empty function that the compiler
// drops. Built with the tag "failpoints", on Linux, a process that reaches a point looks whether the
// point is armed.
//
// The environment variable GANTRY_FAILPOINTS names a folder, shared by all processes of an engine:
//
//	arm          "point skip victims marker": strike when point is reached for the skip+1st time
//	             in a process. Victims are executables' names and "self", separated by commas; the
//	             marker tells this engine's processes from others', by their command lines.
//	             Or, with "pause=100ms" for victims: wait, whenever the point is reached.
//	striking     arm, during the strike: whoever renames it strikes, so it happens once
//	struck       the same when the victims are dead, with " and PID" for the striker, which dies now
//	next         what becomes arm at the strike, if it is there
//	hit/<point>  made when a point is reached
//
// A point's name is "<process>.<step>", a string literal at one place in the source, so that a test
// can list all of them and insist that each was reached.
package failpoint

// EnvName is the environment variable that names the folder.
const EnvName = "GANTRY_FAILPOINTS"
