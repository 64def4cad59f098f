/*
 * img_tool.c
 *	  The image core as a command, for tests and benchmarks written in Python.
 *
 * Reads commands from stdin, one a line, and answers on stdout:
 *	  resize FILTER X0 Y0 X1 Y1 W H FILE   raw RGB, W * H * 3 bytes, from FILE decoded whole
 *	  fit FIT RESIZE FILTER W H FILE       the same after img_fit of the whole image
 *	  decode W H FILE                      a line "WIDTH HEIGHT", then raw RGB
 *	  time W H N FILE                      a line with seconds: N times bytes to a tensor (stretch, bilinear)
 *	  letterbox STRIDE W H FILE            a line "LEFT TOP INNER_W INNER_H WIDTH HEIGHT", then the planes as floats 0..255
 * An error is a line "error MESSAGE" instead.
 */
#include <time.h>

#include "image/image.h"
#include "unit.h"

static const img_limits limits = IMG_DEFAULT_LIMITS;

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static mr_code
answer(const char *line, mr_status *st)
{
	const mr_env *env = &mr_env_malloc;
	char		name[32];
	char		file[1024];
	int			w,
				h,
				n;
	img_box_t	box;
	img_filter	filter;
	img_fit_mode fit;
	size_t		len = 0;
	unsigned char *data;
	img_pixels	whole = {0};
	img_pixels	out = {0};
	mr_code		code = MR_OK;

	if (sscanf(line, "resize %31s %lf %lf %lf %lf %d %d %1023[^\n]", name, &box.x0, &box.y0,
			   &box.x1, &box.y1, &w, &h, file) == 8 && img_filter_by_name(name, &filter))
	{
		data = read_file(file, &len);
		code = img_decode(env, data, len, &limits, 0, 0, &whole, st);
		if (code == MR_OK)
			code = img_resize(env, &whole, w, h, filter, &box, &out, st);
	}
	else if (sscanf(line, "decode %d %d %1023[^\n]", &w, &h, file) == 3)
	{
		data = read_file(file, &len);
		code = img_decode(env, data, len, &limits, w, h, &out, st);
		if (code == MR_OK)
			printf("%d %d\n", out.width, out.height);
	}
	else if (sscanf(line, "time %d %d %d %1023[^\n]", &w, &h, &n, file) == 4)
	{
		img_prep	prep = {.width = w, .height = h, .fit = img_fit_stretch, .filter = img_bilinear,
		.scale = 1 / 255.0f, .std = {1, 1, 1}};
		float	   *planes = malloc(sizeof(float) * 3 * (size_t) w * (size_t) h);
		double		start;

		data = read_file(file, &len);
		start = seconds();
		for (int i = 0; i < n && code == MR_OK; i++)
			code = img_to_tensor(env, data, len, &limits, &prep, planes, st);
		if (code == MR_OK)
			printf("%.9f\n", seconds() - start);
		free(planes);
	}
	else if (sscanf(line, "letterbox %d %d %d %1023[^\n]", &n, &w, &h, file) == 4)
	{
		img_prep	prep = {.scale = 1, .std = {1, 1, 1}, .pad = 114};
		img_letterbox b;
		float	   *planes;

		data = read_file(file, &len);
		code = img_decode(env, data, len, &limits, 0, 0, &whole, st);
		if (code == MR_OK)
		{
			img_plan_letterbox(whole.width, whole.height, w, h, n, &b);
			planes = malloc(sizeof(float) * 3 * (size_t) b.width * (size_t) b.height);
			code = img_letterbox_pixels(env, &whole, &prep, &b, planes, st);
			if (code == MR_OK)
			{
				printf("%d %d %d %d %d %d\n", b.left, b.top, b.inner_w, b.inner_h, b.width, b.height);
				fwrite(planes, sizeof(float), 3 * (size_t) b.width * (size_t) b.height, stdout);
			}
			free(planes);
		}
	}
	else
	{
		char		fit_name[32];
		int			resize;

		if (sscanf(line, "fit %31s %d %31s %d %d %1023[^\n]", fit_name, &resize, name, &w, &h, file) != 6 ||
			!img_filter_by_name(name, &filter) || !img_fit_by_name(fit_name, &fit))
			return mr_fail(st, MR_INVALID, "bad command");
		data = read_file(file, &len);
		code = img_decode(env, data, len, &limits, 0, 0, &whole, st);
		if (code == MR_OK)
			code = img_fit(env, &whole, w, h, fit, resize, filter, 0, &out, st);
	}
	if (code == MR_OK && out.data)
		for (int y = 0; y < out.height; y++)
			fwrite(out.data + (size_t) y * out.stride, 3, (size_t) out.width, stdout);
	img_free(env, &whole);
	img_free(env, &out);
	free(data);
	return code;
}

int
main(void)
{
	char		line[2048];

	while (fgets(line, sizeof(line), stdin))
	{
		mr_status	st = {0};

		if (answer(line, &st) != MR_OK)
			printf("error %s\n", st.message);
		fflush(stdout);
	}
	return 0;
}
