/*
 * nn_run.c
 *	  Run an ONNX model on raw tensors, for tests and benchmarks that compare engines.
 *
 *	  nn_run model.onnx [--isa name] [--precision bfloat16] --describe | --plan
 *	  nn_run model.onnx [--isa name] [--batch n] [--shape AxB] --in file … --out prefix [--shapes]
 *			 [--bench rounds] [--profile rounds]
 *
 * Each input file holds batch x elements in the input's own type (float32 for a
 * float16 graph); output i is written to prefix.i.  --shape 1x16 before an --in
 * says what the input's shape is; without one it is as the model declares.
 * Values that shapes depend on are bound to those of the inputs given; --shapes
 * prints what the outputs' became.  --bench prints the least milliseconds of one
 * run, --profile each step with its least time, --plan the steps alone.  Exit 3:
 * the model is refused; the reason is on stderr.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nn/nn.h"
#include "tools/slurp.h"

static size_t
element_size(int dtype)
{
	switch (dtype)
	{
		case nn_uint8:
		case nn_int8:
		case nn_bool:
			return 1;
		case nn_uint16:
		case nn_int16:
			return 2;
		case nn_int64:
		case nn_uint64:
		case nn_float64:
			return 8;
		default:
			return 4;
	}
}

static void
die(const mr_status *st, const char *what)
{
	fprintf(stderr, "%s: %s%s%s\n", what, st->message, st->detail[0] ? "\n" : "", st->detail);
	exit(3);
}

static void
describe_answer(const uint8_t *onnx, size_t len, const nn_options *options)
{
	static const char *const task[] = {"unknown", "classification", "regression", "clustering"};
	nn_summary	s;
	mr_status	st = {0};

	if (nn_check(&mr_env_malloc, onnx, len, options, &s, &st) != MR_OK)
		die(&st, "check");
	printf("answer %s, %s", s.outputs[s.answer.output].name, task[s.answer.task]);
	for (int i = 0; i < s.answer.n_labels; i++)
		printf("%s%s", i ? ", " : ": ", s.answer.labels[i]);
	printf("\n");
	nn_summary_free(&mr_env_malloc, &s);
}

static void
describe(const char *kind, const nn_tensor_info *info)
{
	printf("%s %s %s", kind, info->name, nn_dtype_name((nn_dtype) info->dtype));
	for (int i = 0; i < info->rank; i++)
		printf(" %lld", (long long) info->dims[i]);
	printf("\n");
}

/* "2x3" to a shape, "" to a scalar. */
static nn_shape
parse_shape(const char *text)
{
	nn_shape	s = {0};
	char	   *end;

	while (*text && s.rank < NN_MAX_RANK)
	{
		s.dims[s.rank++] = strtoll(text, &end, 10);
		text = *end == 'x' ? end + 1 : end;
		if (*end && *end != 'x')
			exit(2);
	}
	return s;
}

/* One line a step; with ms also its time and rate. */
static void
print_plan(const nn_model *m, const double *ms)
{
	double		total = 0;

	for (int i = 0; i < nn_n_steps(m); i++)
	{
		nn_step_info s;
		char		shape[128] = "";

		nn_describe_step(m, i, &s);
		for (int k = 0, at = 0; k < s.rank; k++)
			at += snprintf(shape + at, sizeof(shape) - (size_t) at, "%s%lld", k ? "x" : "", (long long) s.dims[k]);
		if (ms)
			printf("%8.4f ms %6.1f GF/s ", ms[i], ms[i] > 0 ? 1e-6 * (double) s.flops / ms[i] : 0);
		printf("%-16s %-36s %-18s %-8s %-8s %8.1f MF %8.0f kB weights  %s\n", s.kernel, s.detail, shape, s.dtype, s.layout,
			   1e-6 * (double) s.flops, 1e-3 * (double) s.weight_bytes, s.label);
		total += ms ? ms[i] : 0;
	}
	if (ms)
		printf("%8.4f ms\n", total);
}

static double
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return 1e3 * (double) t.tv_sec + 1e-6 * (double) t.tv_nsec;
}

int
main(int argc, char **argv)
{
	nn_options	options = nn_default_options;
	const char *in[NN_MAX_PORTS];
	const void *inputs[NN_MAX_PORTS];
	void	   *outputs[NN_MAX_PORTS];
	nn_shape	shapes[NN_MAX_PORTS],
			   *found;
	bool		print_shapes = false;
	int			n_in = 0,
				batch = 1,
				rounds = 0,
				profile = 0,
				plan_only = 0,
				describe_only = 0;
	const char *prefix = NULL;
	size_t		len,
				in_len[NN_MAX_PORTS],
				file_len;
	unsigned char *onnx;
	uint8_t    *file;
	nn_model	model;
	mr_status	st = {0};
	void	   *workspace;

	if (argc < 3)
		return 2;
	for (int i = 0; i < NN_MAX_PORTS; i++)
		shapes[i].rank = -1;
	for (int i = 2; i < argc; i++)
	{
		if (strcmp(argv[i], "--describe") == 0)
			describe_only = 1;
		else if (strcmp(argv[i], "--shapes") == 0)
			print_shapes = true;
		else if (strcmp(argv[i], "--plan") == 0)
			plan_only = 1;
		else if (i + 1 == argc)
			return 2;
		else if (strcmp(argv[i], "--in") == 0 && n_in < NN_MAX_PORTS)
			in[n_in++] = argv[++i];
		else if (strcmp(argv[i], "--shape") == 0 && n_in < NN_MAX_PORTS)
			shapes[n_in] = parse_shape(argv[++i]);
		else if (strcmp(argv[i], "--out") == 0)
			prefix = argv[++i];
		else if (strcmp(argv[i], "--batch") == 0)
			batch = atoi(argv[++i]);
		else if (strcmp(argv[i], "--bench") == 0)
			rounds = atoi(argv[++i]);
		else if (strcmp(argv[i], "--profile") == 0)
			profile = atoi(argv[++i]);
		else if (strcmp(argv[i], "--precision") == 0)
			options.precision = strcmp(argv[++i], "bfloat16") == 0 ? nn_bfloat16 : nn_float32;
		else if (strcmp(argv[i], "--isa") == 0)
		{
			i++;
			for (nn_isa isa = nn_isa_auto; isa <= nn_isa_last; isa++)
				if (strcmp(argv[i], nn_isa_name(isa)) == 0)
					options.isa = isa;
		}
		else
			return 2;
	}
	onnx = slurp(argv[1], &len);
	for (int i = 0; i < n_in; i++)
		inputs[i] = slurp(in[i], &in_len[i]);
	if (nn_compile_for(&mr_env_malloc, onnx, len, &options, n_in, shapes, inputs, &file, &file_len, &st) != MR_OK)
		die(&st, "compile");
	if (nn_open(file, file_len, &model, &st) != MR_OK)
		die(&st, "open");
	if (describe_only)
	{
		for (int i = 0; i < nn_n_inputs(&model); i++)
			describe("input", nn_input(&model, i));
		for (int i = 0; i < nn_n_outputs(&model); i++)
			describe("output", nn_output(&model, i));
		describe_answer(onnx, len, &options);
		printf("isa %s\nfile %zu\nworkspace %zu\n", nn_isa_name(nn_model_isa(&model)), file_len, nn_workspace(&model));
		return 0;
	}
	if (plan_only)
	{
		print_plan(&model, NULL);
		return 0;
	}
	if (n_in != nn_n_inputs(&model) || (prefix == NULL && !rounds && !profile))
		return 2;
	workspace = aligned_alloc(64, (nn_workspace(&model) + 127) / 64 * 64);
	for (int i = 0; i < n_in; i++)
	{
		size_t		want = (size_t) nn_input(&model, i)->elements * element_size(nn_input(&model, i)->dtype) * (size_t) batch;

		if (in_len[i] != want)
		{
			fprintf(stderr, "%s: %zu bytes, %zu wanted\n", in[i], in_len[i], want);
			return 2;
		}
	}
	for (int i = 0; i < nn_n_outputs(&model); i++)
		outputs[i] = malloc((size_t) nn_output(&model, i)->elements * element_size(nn_output(&model, i)->dtype) * (size_t) batch + 64);
	found = calloc((size_t) batch * (size_t) nn_n_outputs(&model), sizeof(*found));
	if (nn_run_shaped(&model, &mr_env_malloc, workspace, batch, inputs, outputs, found, &st) != MR_OK)
		die(&st, "run");
	if (rounds)
	{
		double		best = 1e30;

		for (int r = 0; r < rounds; r++)
		{
			double		start = now_ms();

			nn_run_typed(&model, &mr_env_malloc, workspace, batch, inputs, outputs, &st);
			if (now_ms() - start < best)
				best = now_ms() - start;
		}
		printf("%.4f\n", best);
	}
	if (profile)
	{
		int			n = nn_n_steps(&model);
		double	   *least = calloc((size_t) n + 1, sizeof(double));
		double	   *ms = calloc((size_t) n + 1, sizeof(double));

		for (int r = 0; r < profile; r++)
		{
			memset(ms, 0, (size_t) n * sizeof(double));
			nn_run_timed(&model, &mr_env_malloc, workspace, batch, inputs, outputs, ms, &st);
			for (int i = 0; i < n; i++)
				if (r == 0 || ms[i] < least[i])
					least[i] = ms[i];
		}
		print_plan(&model, least);
	}
	for (int i = 0; prefix && i < nn_n_outputs(&model); i++)
	{
		char		path[4096];
		FILE	   *f;
		size_t		size = element_size(nn_output(&model, i)->dtype) * (size_t) batch;

		/* of a batch all are written, each in its whole room */
		if (batch > 1)
			size *= (size_t) nn_output(&model, i)->elements;
		for (int k = 0; batch == 1 && k < found[i].rank; k++)
			size *= (size_t) found[i].dims[k];
		for (int k = 0; print_shapes && k < found[i].rank; k++)
			printf("%s%lld", k ? "x" : "", (long long) found[i].dims[k]);
		if (print_shapes)
			printf("\n");
		snprintf(path, sizeof(path), "%s.%d", prefix, i);
		f = fopen(path, "wb");
		if (f == NULL || fwrite(outputs[i], 1, size, f) != size || fclose(f) != 0)
		{
			perror(path);
			return 2;
		}
	}
	return 0;
}
