/*
 * test_nn_operators.c
 *	  docs/operators.md lists exactly the operators of the table, with their opsets.
 *
 *	  unit/bin/test_nn_operators --write		writes the list into the page
 *
 * The list stands between two marks; the rest of the page is written by hand.
 */
#include "nn/onnx.h"
#include "nn/ops.h"
#include "unit.h"

#define PAGE "docs/operators.md"
#define BEGIN "<!-- operators: begin -->\n"
#define END "<!-- operators: end -->\n"

static int
by_name(const void *a, const void *b)
{
	const nn_op *const *p = a;
	const nn_op *const *q = b;
	int			d = strcmp((*p)->domain, (*q)->domain);

	d = d ? d : strcmp((*p)->name, (*q)->name);
	return d ? d : (*p)->since - (*q)->since;
}

/* The list as the table of operators has it. */
static char *
make_list(void)
{
	const nn_op **ops = malloc((size_t) nn_n_ops * sizeof(*ops));
	size_t		size = (size_t) nn_n_ops * 100 + 1000,
				at = 0;
	char	   *list = malloc(size);
	int			n = 0;

	for (int i = 0; i < nn_n_ops; i++)
		if (nn_ops[i].domain[0] == '\0' || strcmp(nn_ops[i].domain, "ai.onnx.ml") == 0)
			ops[n++] = &nn_ops[i];		/* the rest are made by the planner */
	qsort(ops, (size_t) n, sizeof(*ops), by_name);
	for (int i = 0; i < n;)
	{
		int			since = ops[i]->since,
					until = ops[i]->until,
					first = i;
		bool		ml = ops[i]->domain[0] != '\0';

		for (; i < n && strcmp(ops[i]->name, ops[first]->name) == 0 && strcmp(ops[i]->domain, ops[first]->domain) == 0; i++)
			until = ops[i]->until;
		since = !ml && since < NN_MIN_OPSET ? NN_MIN_OPSET : since;
		if (first == 0 || strcmp(ops[first]->domain, ops[first - 1]->domain) != 0)
			at += (size_t) snprintf(list + at, size - at, "%s| operator%s | opsets |\n|---|---|\n", first ? "\n" : "",
									ml ? " of `ai.onnx.ml`" : "");
		at += (size_t) snprintf(list + at, size - at, since == until ? "| %s | %d |\n" : "| %s | %d-%d |\n", ops[first]->name, since, until);
	}
	free(ops);
	return list;
}

int
main(int argc, char **argv)
{
	size_t		len;
	char	   *page = (char *) read_file(PAGE, &len);
	char	   *text = page ? realloc(page, len + 1) : NULL;
	char	   *list = make_list();
	char	   *begin,
			   *end;

	if (text == NULL)
	{
		skip("no " PAGE);
		return done_testing();
	}
	text[len] = '\0';
	begin = strstr(text, BEGIN);
	end = begin ? strstr(begin, END) : NULL;
	if (!ok(end != NULL, "the page has the marks of the list"))
		return done_testing();
	begin += strlen(BEGIN);
	if (argc > 1 && strcmp(argv[1], "--write") == 0)
	{
		FILE	   *f = fopen(PAGE, "wb");

		if (f == NULL)
			return 2;
		fprintf(f, "%.*s%s%s", (int) (begin - text), text, list, end);
		if (fclose(f) != 0)
			return 2;
		free(list);
		free(text);
		return 0;
	}
	ok((size_t) (end - begin) == strlen(list) && memcmp(begin, list, strlen(list)) == 0,
	   PAGE " lists the operators that there are (else: unit/bin/test_nn_operators --write)");
	free(list);
	free(text);
	return done_testing();
}
