// Package label is how an engine's interfaces on the host say whose they are: by their alias. After a crash the engine
// finds by it what a former daemon made and did not record.
package label

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Default is the label of the default network's interface.
func Default(engine string) string { return "gantry " + engine + " default" }

// Network is the label of a network's interface.
func Network(engine, id string) string { return "gantry " + engine + " network " + id }

// Removed is the label of an interface whose network is gone, and which goes soon.
func Removed(engine string) string { return Network(engine, "removed") }

// Owner reads a label: the network's ID, if the interface is a network's of this engine.
func Owner(alias, engine string) (id string, ours bool) {
	return strings.CutPrefix(alias, "gantry "+engine+" network ")
}

// Spare is a name for an interface that is not yet, or no longer, a network's: 15 characters.
func Spare(engine string) string { return spares(engine) + fmt.Sprintf("%08x", rand.Uint32()) }

// IsSpare tells whether a name is one that Spare gave to this engine.
func IsSpare(name, engine string) bool { return strings.HasPrefix(name, spares(engine)) }

func spares(engine string) string {
	sum := sha256.Sum256([]byte(engine))
	return "gb" + hex.EncodeToString(sum[:2]) + "~"
}
