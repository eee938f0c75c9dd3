package spawn

const (
	execveatNumber = 281
	sysSetns       = 268
)
