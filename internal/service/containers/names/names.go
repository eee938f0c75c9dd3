// Package names makes names and IDs of containers, and checks those that users give.
package names

import (
	"crypto/rand"
	"encoding/hex"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// NewID makes an ID of 64 hex digits. One whose first twelve digits read as a
// number is thrown away: that short form becomes a host name, and a host name
// that is a number confuses programs.
func NewID() string {
	for {
		var b [32]byte
		_, _ = rand.Read(b[:])
		id := hex.EncodeToString(b[:])
		if _, err := strconv.ParseInt(id[:12], 10, 64); err != nil {
			return id
		}
	}
}

var (
	adjectives = strings.Fields(`amber apt ardent balmy bold brisk calm candid clear copper coral crisp dapper deft eager early
		fair fleet fond gentle glad golden grand hardy hazel honest humble ivory jolly keen kind lively lucid mellow merry mild
		nimble noble olive open patient placid plucky proud quick quiet ready rosy serene sharp silver sincere sleek smart snug
		solid spry stable steady stout sunny supple swift tidy true upbeat vivid warm wise witty zesty`)
	surnames = strings.Fields(`abel archimedes aryabhata banach bessel boole cantor chandra cori dirac elion erdos euclid euler
		faraday fermat feynman fourier galois gauss germain goeppert halley hamilton heaviside hertz hilbert hooke huygens hypatia
		joule kepler khayyam kirchhoff kovalevskaya lagrange laplace leavitt legendre lehmer liskov lovelace mandelbrot maxwell
		mcclintock mirzakhani moebius napier noether ohm pascal perlman planck poincare ramanujan riemann rubin sagan shannon
		somerville tarski tesla turing viete volta wiles wu yonath`)
)

// Random makes a name like "calm_euler"; from the third attempt on with a digit.
func Random(attempt int) string {
	name := pick(adjectives) + "_" + pick(surnames)
	if attempt >= 3 {
		n, _ := rand.Int(rand.Reader, big.NewInt(100000))
		name += n.String()
	}
	return name
}

func pick(words []string) string {
	n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
	return words[n.Int64()]
}

// Check tells whether a container may have the name (without slash).
func Check(name string) error {
	if !nameRule.MatchString(name) {
		return classed.Invalid("Invalid container name (%s), only %s are allowed", name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	return nil
}
