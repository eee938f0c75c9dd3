// Package api tests the Engine API itself, over the socket of a real engine: every operation of
// the description, in old and new versions, by raw HTTP and by the official Go client; bad input;
// streams that are cancelled; and the version history of the answers' fields. Debian's docker
// speaks no version above 1.50, so that what came later is tested here alone.
package api
