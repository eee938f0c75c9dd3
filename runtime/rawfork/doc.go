// Package rawfork is the one system call that package syscall cannot make for others: a clone after which two
// processes go on with one stack, one after the other. It is for package spawn and for gantry-init, and
// imports nothing.
package rawfork
