package app

import (
	"fmt"

	"github.com/docker/go-units"
)

// Prune is what the prune verbs have in common: the question, unless the user has forced
// the answer, then remove, whose report and space freed are shown.
func (a *App) Prune(force bool, question string, remove func() (freed uint64, report string, err error)) error {
	if !force {
		if err := a.Confirm(question); err != nil {
			return err
		}
	}
	freed, report, err := remove()
	if err != nil {
		return err
	}
	if report != "" {
		fmt.Fprintln(a.Out, report)
	}
	fmt.Fprintln(a.Out, "Total reclaimed space:", units.HumanSize(float64(freed)))
	return nil
}
