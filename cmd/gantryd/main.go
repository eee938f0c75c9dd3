// Gantryd is the engine's daemon: it serves the Engine API, keeps the records,
// and has the keeper run containers. Everything in it may crash or restart
// without a container noticing. Its flags and its file daemon.json are dockerd's;
// started under the name dockerd it listens where Docker would.
package main

import "os"

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }
