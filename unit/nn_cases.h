/*
 * nn_cases.h
 *	  ONNX's own operator cases: the archive of the real data, unpacked aside.
 *
 * The folder holds one folder a case: model.onnx, test_data_set_*, input_*.pb,
 * output_*.pb.  Tests enter it (chdir) and name cases by their folders.
 */
#ifndef MILLRACE_NN_CASES_H
#define MILLRACE_NN_CASES_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"

#define MAX_CASES 4096

static char cases_unpacked[1024];

static int
cases_by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Enter root, or $MILLRACE_CONFORMANCE, or the unpacked archive; how many cases
 * are there (in order), -1: none to be found. */
static __attribute__((unused)) int
cases_enter(const char *root, char *names[MAX_CASES])
{
	const char *archive = data_path("onnx_conformance/node_v1.8.1.tar.gz");
	const char *tmp = getenv("TMPDIR");
	char		command[3000];
	struct dirent *e;
	DIR		   *d;
	int			n = 0;

	root = root ? root : getenv("MILLRACE_CONFORMANCE");
	if (root == NULL)
	{
		snprintf(cases_unpacked, sizeof(cases_unpacked), "%.900s/millrace_cases_XXXXXX", tmp ? tmp : "/tmp");
		if (access(archive, R_OK) != 0 || mkdtemp(cases_unpacked) == NULL)
			return -1;
		snprintf(command, sizeof(command), "tar -xzf '%s' -C '%s'", archive, cases_unpacked);
		if (system(command) != 0)
			return -1;
		root = cases_unpacked;
	}
	if (chdir(root) != 0 || (access("node", R_OK) == 0 && chdir("node") != 0))
		return -1;
	d = opendir(".");
	while (d && (e = readdir(d)) != NULL && n < MAX_CASES)
	{
		char		path[300];

		snprintf(path, sizeof(path), "%s/model.onnx", e->d_name);
		if (access(path, R_OK) == 0)
			names[n++] = strdup(e->d_name);
	}
	if (d)
		closedir(d);
	qsort(names, (size_t) n, sizeof(char *), cases_by_name);
	return n;
}

static __attribute__((unused)) void
cases_leave(char *names[MAX_CASES], int n)
{
	char		command[1100];

	for (int i = 0; i < n; i++)
		free(names[i]);
	snprintf(command, sizeof(command), "cd / && rm -rf '%s'", cases_unpacked);
	if (cases_unpacked[0] && system(command) != 0)
		printf("# %s is left behind\n", cases_unpacked);
}

#endif							/* MILLRACE_NN_CASES_H */
