// Compiles a profile with libseccomp and writes the filter to standard output, for
// TestAgainstLibseccomp. Standard input has a line for each step, in the order of their use:
//
//	default ACTION
//	arch NAME                           the first replaces the machine's own
//	rule ACTION NAME COUNT (INDEX OP VALUE VALUE2)…
//
// Actions and operators are libseccomp's numbers. Names that it does not know are listed on standard error.
#include <seccomp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void die(const char *what, int code)
{
	fprintf(stderr, "failed: %s: %s\n", what, strerror(-code));
	exit(1);
}

int main(void)
{
	scmp_filter_ctx ctx = NULL;
	char word[16], name[64];
	int arches = 0, code;
	while (scanf("%15s", word) == 1) {
		if (!strcmp(word, "default")) {
			uint32_t action;
			if (scanf("%" SCNu32, &action) != 1 || !(ctx = seccomp_init(action)))
				die("default", 0);
		} else if (!strcmp(word, "arch")) {
			if (scanf("%63s", name) != 1)
				die("arch", 0);
			uint32_t arch = seccomp_arch_resolve_name(name);
			if (!arches++ && arch != seccomp_arch_native() && (code = seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE)))
				die("removing the machine's own", code);
			if ((code = seccomp_arch_add(ctx, arch)) && arch != seccomp_arch_native())
				die(name, code);
		} else if (!strcmp(word, "rule")) {
			uint32_t action;
			unsigned count;
			struct scmp_arg_cmp args[6];
			if (scanf("%" SCNu32 " %63s %u", &action, name, &count) != 3 || count > 6)
				die("rule", 0);
			for (unsigned i = 0; i < count; i++) {
				unsigned index, op;
				uint64_t a, b;
				if (scanf("%u %u %" SCNu64 " %" SCNu64, &index, &op, &a, &b) != 4)
					die("argument", 0);
				args[i] = (struct scmp_arg_cmp){index, op, a, b};
			}
			int nr = seccomp_syscall_resolve_name(name);
			if (nr == __NR_SCMP_ERROR)
				fprintf(stderr, "%s\n", name);
			else if ((code = seccomp_rule_add_array(ctx, action, nr, count, args)))
				die(name, code);
		}
	}
	if ((code = seccomp_export_bpf(ctx, STDOUT_FILENO)))
		die("export", code);
	return 0;
}
