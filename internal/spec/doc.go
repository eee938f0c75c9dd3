// Package spec holds the plain values that cross the borders between services,
// drivers and the keeper: what a container's root is made of, how a process is
// launched, how it ended, where it is attached. It holds no behaviour beyond
// small pure methods and does no input or output.
package spec
