package app

import (
	"fmt"
	"strings"
)

// Confirm asks a yes-or-no question; anything but yes ends the command.
func (a *App) Confirm(question string) error {
	if strings.Contains(question, "?") {
		question += " [y/N] "
	}
	fmt.Fprint(a.Out, question)
	answer, err := a.In.ReadLine()
	if err != nil || !strings.EqualFold(strings.TrimSpace(answer), "y") {
		if err != nil {
			fmt.Fprintln(a.Out)
		}
		return errDeclined
	}
	return nil
}

// errDeclined ends a command with status 1 and no further word.
var errDeclined error = &Exit{Code: 1}
