package app

import (
	"golang.org/x/sys/windows"
	"golang.org/x/term"
)

// rawOutput makes the console understand escape sequences.
func rawOutput(fd int) (*term.State, error) {
	st, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	var mode uint32
	if err := windows.GetConsoleMode(windows.Handle(fd), &mode); err != nil {
		return nil, err
	}
	return st, windows.SetConsoleMode(windows.Handle(fd), mode|windows.ENABLE_PROCESSED_OUTPUT|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING|windows.DISABLE_NEWLINE_AUTO_RETURN)
}
