package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func buildFloor(source, to string) error {
	if out, err := exec.Command("gcc", "-O2", "-w", "-o", to, source).CombinedOutput(); err != nil {
		return fmt.Errorf("building the floor: %w\n%s", err, out)
	}
	return nil
}

// floorProcess is the floor program, waiting for orders.
type floorProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (b *bench) startFloor() (*floorProcess, error) {
	return runFloor("unshare", "-m", "-n", b.floor, "-s")
}

// startFloorBeside has the floor's containers on the bridge of an engine, beside the engine's own.
func (b *bench) startFloorBeside(e *engine) (*floorProcess, error) {
	return runFloor("nsenter", "--net=/proc/"+strconv.Itoa(e.daemon())+"/ns/net", "unshare", "-m", b.floor, "-s", "-b", e.bridge)
}

func runFloor(name string, args ...string) (*floorProcess, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is ours to handle: it cleans up at its end of input
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &floorProcess{cmd, in, bufio.NewReader(out)}, cmd.Start()
}

func (f *floorProcess) close() error { return errors.Join(f.in.Close(), f.cmd.Wait()) }

// block runs n containers, one every so often (0 is back to back): the time of each, and the CPU time of all.
func (f *floorProcess) block(n int, every time.Duration) (s sample, cpu time.Duration, err error) {
	if _, err := fmt.Fprintf(f.in, "%d %d\n", n, every.Milliseconds()); err != nil {
		return nil, 0, err
	}
	line, err := f.out.ReadString('\n')
	time.Sleep(settle) // what it leaves to the kernel, namespaces on their way out, is no part of the next one's turn
	words := strings.Fields(line)
	if err != nil || len(words) != n+1 {
		return nil, 0, fmt.Errorf("the floor program answered %q, %w", line, err)
	}
	for i, w := range words {
		v, err := strconv.ParseFloat(w, 64)
		if err != nil {
			return nil, 0, err
		}
		d := time.Duration(v * 1e6)
		if i == n {
			return s, d, nil
		}
		s = append(s, d)
	}
	return s, 0, nil
}
