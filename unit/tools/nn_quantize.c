/*
 * nn_quantize.c
 *	  Quantise an ONNX model of one input, for tests that compare engines.
 *
 *	  nn_quantize model.onnx --in rows --out int8.onnx [--isa name] [--method name] [--percentile p]
 *	              [--every n] [--min-cosine c] [--max-kept n] [--keep layer] … [--output n]
 *
 * rows holds samples of the input, one after the other; every n-th (5) is held
 * out.  Prints the agreement, and the layers that stayed float32.  Exit 3: the
 * model is refused; the reason is on stderr.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/quantize.h"
#include "tools/slurp.h"

static void
die(const mr_status *st)
{
	fprintf(stderr, "%s\n%s\n%s\n", st->message, st->detail, st->hint);
	exit(3);
}

int
main(int argc, char **argv)
{
	nn_options	options = nn_default_options;
	nn_quant_options quant = nn_quant_defaults;
	const char *keep[64];
	const char *in = NULL,
			   *out = NULL;
	int			every = 5;
	size_t		len,
				rows_len,
				row;
	unsigned char *onnx,
			   *rows;
	nn_quantizer *q;
	mr_status	st = {0};
	bool		again;
	const nn_agreement *a;
	FILE	   *f;

	quant.keep = keep;
	for (int i = 2; i + 1 < argc; i += 2)
	{
		const char *v = argv[i + 1];

		if (strcmp(argv[i], "--in") == 0)
			in = v;
		else if (strcmp(argv[i], "--out") == 0)
			out = v;
		else if (strcmp(argv[i], "--percentile") == 0)
			quant.percentile = atof(v);
		else if (strcmp(argv[i], "--min-cosine") == 0)
			quant.min_cosine = atof(v);
		else if (strcmp(argv[i], "--max-kept") == 0)
			quant.max_kept = atoi(v);
		else if (strcmp(argv[i], "--every") == 0)
			every = atoi(v);
		else if (strcmp(argv[i], "--output") == 0)
			quant.output = atoi(v);
		else if (strcmp(argv[i], "--keep") == 0 && quant.n_keep < 64)
			keep[quant.n_keep++] = v;
		else if (strcmp(argv[i], "--isa") == 0)
		{
			for (nn_isa isa = nn_isa_auto; nn_isa_name(isa) && isa < 16; isa++)
				if (strcmp(nn_isa_name(isa), v) == 0)
				{
					options.isa = isa;
					break;
				}
		}
		else if (strcmp(argv[i], "--method") != 0 || !nn_quant_method_by_name(v, &quant.method))
			return 2;
	}
	if (in == NULL || out == NULL || every < 2)
		return 2;
	onnx = slurp(argv[1], &len);
	rows = slurp(in, &rows_len);
	if (nn_quantizer_open(&mr_env_malloc, onnx, len, &options, &quant, &q, &st) != MR_OK)
		die(&st);
	if (nn_n_inputs(nn_quantizer_model(q)) != 1)
		return 2;
	row = (size_t) nn_input(nn_quantizer_model(q), 0)->elements * sizeof(float);
	for (size_t i = 0; i < rows_len / row; i++)
	{
		const void *inputs[1] = {rows + i * row};

		if (i % (size_t) every != (size_t) every - 1 && nn_quantizer_observe(q, inputs, &st) != MR_OK)
			die(&st);
	}
	do
	{
		if (nn_quantizer_build(q, &st) != MR_OK)
			die(&st);
		for (size_t i = (size_t) every - 1; i < rows_len / row; i += (size_t) every)
		{
			const void *inputs[1] = {rows + i * row};

			if (nn_quantizer_compare(q, inputs, &st) != MR_OK)
				die(&st);
		}
		if (nn_quantizer_next(q, &again, &st) != MR_OK)
			die(&st);
	} while (again);
	a = nn_quantizer_agreement(q);
	printf("rows %lld\ntop1 %lld\ncosine %.6f\nmin_cosine %.6f\nmax_error %.6g\nmax_value %.6g\nlayers %d\n", (long long) a->rows,
		   (long long) a->top1, a->cosine / (double) a->rows, a->min_cosine, a->max_error, a->max_value,
		   nn_quantizer_n_layers(q));
	for (int i = 0; i < nn_quantizer_n_layers(q); i++)
	{
		bool		kept;
		const char *name = nn_quantizer_layer(q, i, &kept);

		if (kept)
			printf("kept %s\n", name);
	}
	f = fopen(out, "wb");
	onnx = (unsigned char *) (uintptr_t) nn_quantizer_bytes(q, &len);
	if (f == NULL || fwrite(onnx, 1, len, f) != len || fclose(f) != 0)
	{
		perror(out);
		return 2;
	}
	nn_quantizer_close(q);
	return 0;
}
