/*
 * nms.c
 *	  Non-maximum suppression as a command, for tests written in Python.
 *
 * Reads cases from stdin: int32 n, int32 kind (nms.h), int32 max, float32
 * confidence, float64 iou, then n times four corners, score and class as float32.
 * Answers each with int32 kept and so many int32 indices, surest first.
 */
#include "quality/nms.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct question
{
	int32_t		n,
				kind,
				max;
	float		confidence;
	double		iou;
} question;

int
main(void)
{
	question	q;

	while (fread(&q, sizeof(q), 1, stdin) == 1)
	{
		int			n = q.n;
		qlt_detection *d = malloc(sizeof(*d) * (size_t) (n + 1));

		for (int i = 0; i < n; i++)
		{
			float		v[6];

			if (fread(v, sizeof(v), 1, stdin) != 1)
				return 1;
			d[i] = (qlt_detection) {{v[0], v[1], v[2], v[3]}, v[4], (int32_t) v[5], i};
		}
		if (qlt_nms(&mr_env_malloc, d, &n, (qlt_nms_kind) q.kind, q.iou, q.confidence, q.max, NULL) != MR_OK)
			return 1;
		fwrite(&(int32_t) {n}, 4, 1, stdout);
		for (int i = 0; i < n; i++)
			fwrite(&d[i].index, 4, 1, stdout);
		fflush(stdout);
		free(d);
	}
	return 0;
}
