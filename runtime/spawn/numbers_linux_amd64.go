package spawn

const (
	execveatNumber = 322
	sysSetns       = 308
)
