// Package arch holds the tests that keep the house in shape: who may import
// whom, what is linked, that every folder says what it is for.
package arch
