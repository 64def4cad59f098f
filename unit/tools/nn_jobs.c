/*
 * nn_jobs.c
 *	  Run many models in one process, for tests that compare thousands of graphs.
 *
 * Jobs come through standard input, answers go to standard output, both binary,
 * little-endian, a number being 32 bits:
 *
 *	  job		length and bytes of the ONNX model; length and name of the instruction
 *				set; batch; inputs: count, and for each its rank (-1: as declared), its
 *				dimensions (64 bits each), its length and bytes
 *	  answer	0, count of outputs, and for each its type, rank, dimensions, length, bytes;
 *				or the mr_code, length and text of the message
 *
 * With batch 1 the model is compiled for the inputs' shapes and, where shapes
 * depend on them, their values.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/ops.h"

static void
take(void *to, size_t n)
{
	if (n && fread(to, 1, n, stdin) != n)
		exit(feof(stdin) ? 0 : 2);
}

static int32_t
take_int(void)
{
	int32_t		v;

	take(&v, sizeof(v));
	return v;
}

/* Length and bytes; a NUL follows them. */
static uint8_t *
take_bytes(size_t *len)
{
	uint8_t    *p;

	*len = (uint32_t) take_int();
	p = aligned_alloc(64, (*len + 64) / 64 * 64);
	if (p == NULL)
		exit(2);
	take(p, *len);
	p[*len] = '\0';
	return p;
}

static void
give(const void *from, size_t n)
{
	if (n && fwrite(from, 1, n, stdout) != n)
		exit(2);
}

static void
give_int(int32_t v)
{
	give(&v, sizeof(v));
}

typedef struct job
{
	uint8_t    *onnx,
			   *isa;
	size_t		len;
	int			batch,
				n_in;
	nn_shape	shapes[NN_MAX_PORTS];
	const void *in[NN_MAX_PORTS];
	size_t		in_len[NN_MAX_PORTS];
	uint8_t    *file;
	void	   *workspace;
	void	   *out[NN_MAX_PORTS];
	nn_shape   *found;
} job;

static void
take_job(job *j)
{
	size_t		unused;

	memset(j, 0, sizeof(*j));
	j->onnx = take_bytes(&j->len);
	j->isa = take_bytes(&unused);
	j->batch = take_int();
	j->n_in = take_int();
	if (j->batch < 1 || j->n_in < 0 || j->n_in > NN_MAX_PORTS)
		exit(2);
	for (int i = 0; i < j->n_in; i++)
	{
		j->shapes[i].rank = take_int();
		if (j->shapes[i].rank > NN_MAX_RANK)
			exit(2);
		for (int k = 0; k < j->shapes[i].rank; k++)
			take(&j->shapes[i].dims[k], sizeof(int64_t));
		j->in[i] = take_bytes(&j->in_len[i]);
	}
}

static mr_code
run_job(job *j, nn_model *m, mr_status *st)
{
	nn_options	opt = nn_default_options;
	size_t		len;

	opt.isa = (nn_isa) -1;
	for (nn_isa isa = nn_isa_auto; isa <= nn_isa_last; isa++)
		if (strcmp((char *) j->isa, nn_isa_name(isa)) == 0)
			opt.isa = isa;
	if (j->batch == 1)
		NN_TRY(nn_compile_for(&mr_env_malloc, j->onnx, j->len, &opt, j->n_in, j->shapes, j->in, &j->file, &len, st));
	else
		NN_TRY(nn_compile(&mr_env_malloc, j->onnx, j->len, &opt, &j->file, &len, st));
	NN_TRY(nn_open(j->file, len, m, st));
	if (nn_n_inputs(m) != j->n_in)
		return mr_fail(st, MR_INTERNAL, "%d inputs, the model has %d", j->n_in, nn_n_inputs(m));
	for (int i = 0; i < j->n_in; i++)
		if (j->in_len[i] != (size_t) nn_input(m, i)->elements * nn_dtype_size(nn_input(m, i)->dtype) * (size_t) j->batch)
			return mr_fail(st, MR_INTERNAL, "input %d has %zu bytes", i, j->in_len[i]);
	j->workspace = aligned_alloc(64, (nn_workspace(m) + 127) / 64 * 64);
	j->found = calloc((size_t) (j->batch * nn_n_outputs(m)) + 1, sizeof(nn_shape));
	for (int i = 0; i < nn_n_outputs(m); i++)
		j->out[i] = malloc((size_t) nn_output(m, i)->elements * nn_dtype_size(nn_output(m, i)->dtype) * (size_t) j->batch + 1);
	return nn_run_shaped(m, &mr_env_malloc, j->workspace, j->batch, j->in, j->out, j->found, st);
}

static void
answer(const job *j, const nn_model *m)
{
	give_int(0);
	give_int(nn_n_outputs(m));
	for (int i = 0; i < nn_n_outputs(m); i++)
	{
		nn_shape	s = j->found[i];
		int64_t		n = nn_output(m, i)->elements * j->batch;

		if (j->batch == 1)
			nn_shape_elements(&s, &n);
		else if (s.rank)
			s.dims[0] *= j->batch;
		give_int(nn_output(m, i)->dtype);
		give_int(s.rank);
		for (int k = 0; k < s.rank; k++)
			give(&s.dims[k], sizeof(int64_t));
		n *= (int64_t) nn_dtype_size(nn_output(m, i)->dtype);
		give_int((int32_t) n);
		give(j->out[i], (size_t) n);
	}
}

int
main(void)
{
	for (;;)
	{
		job			j;
		nn_model	m;
		mr_status	st = {0};
		mr_code		rc;

		take_job(&j);
		rc = run_job(&j, &m, &st);
		if (rc == MR_OK)
			answer(&j, &m);
		else
		{
			give_int(rc);
			give_int((int32_t) strlen(st.message));
			give(st.message, strlen(st.message));
		}
		if (fflush(stdout) != 0)
			return 2;
		for (int i = 0; i < j.n_in; i++)
			free((void *) (uintptr_t) j.in[i]);
		for (int i = 0; i < NN_MAX_PORTS; i++)
			free(j.out[i]);
		free(j.found);
		free(j.workspace);
		mr_free(&mr_env_malloc, j.file);
		free(j.isa);
		free(j.onnx);
	}
}
