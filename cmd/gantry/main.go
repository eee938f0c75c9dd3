// Command gantry is the command line of the Gantry container engine. Started under the name docker (a link) it
// speaks under that name.
package main

import (
	"os"

	"github.com/gantry-engine/gantry/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args)) }
