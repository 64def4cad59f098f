/*
 * avro_text.c
 *	  Avro values as text.  See avro_text.h.
 */
#include "stream/worker/avro_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT (64 << 20)
#define MAX_DECIMAL 256			/* bytes of a decimal: 616 digits */

/* PostgreSQL's timestamps: 4714-11-24 BC to the end of 294276, in microseconds around 2000. */
#define MIN_MICROS INT64_C(-211813488000000000)
#define END_MICROS INT64_C(9223371331200000000)
#define UNIX_MICROS INT64_C(946684800000000)	/* 2000-01-01 since 1970 */

bool
avro_begin(avro_text *out, kfk_arena *arena)
{
	*out = (avro_text) {arena, NULL, 0, 64, false, false};
	out->data = kfk_take(arena, KFK_TEXT_RESERVE + out->room + 1);
	if (out->data == NULL)
		return false;
	out->data += KFK_TEXT_RESERVE;
	return true;
}

/* Room for so many bytes more; false (and failed) if there is none. */
static bool
reserve(avro_text *out, size_t more)
{
	size_t		room = out->room;
	char	   *larger;

	if (out->failed)
		return false;
	if (more <= out->room - out->len)
		return true;
	if (more > MAX_TEXT || out->len + more > MAX_TEXT)
	{
		out->failed = out->too_large = true;
		return false;
	}
	while (room - out->len < more)
		room *= 2;
	larger = kfk_take(out->arena, KFK_TEXT_RESERVE + room + 1);
	if (larger == NULL)
	{
		out->failed = true;
		return false;
	}
	memcpy(larger + KFK_TEXT_RESERVE, out->data, out->len);
	out->data = larger + KFK_TEXT_RESERVE;
	out->room = room;
	return true;
}

void
avro_put(avro_text *out, const char *data, size_t len)
{
	if (len == 0 || !reserve(out, len))
		return;
	memcpy(out->data + out->len, data, len);
	out->len += len;
}

static void
put_string(avro_text *out, const char *data, size_t len)
{
	size_t		done = 0;

	avro_put(out, "\"", 1);
	for (size_t i = 0; i < len; i++)
	{
		char		escape[8];
		unsigned char c = (unsigned char) data[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		avro_put(out, data + done, i - done);
		avro_put(out, escape, (size_t) snprintf(escape, sizeof(escape), c < 0x20 ? "\\u%04x" : "\\%c", c));
		done = i + 1;
	}
	avro_put(out, data + done, len - done);
	avro_put(out, "\"", 1);
}

void
avro_put_key(avro_text *out, const char *name, size_t len, bool first)
{
	if (!first)
		avro_put(out, ",", 1);
	put_string(out, name, len);
	avro_put(out, ":", 1);
}

/* ---- bytes ---- */

static void
put_base64(avro_text *out, const uint8_t *data, size_t len)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	if (!reserve(out, (len + 2) / 3 * 4))
		return;
	for (size_t i = 0; i < len; i += 3)
	{
		uint32_t	three = (uint32_t) data[i] << 16 | (i + 1 < len ? (uint32_t) data[i + 1] << 8 : 0) | (i + 2 < len ? data[i + 2] : 0);

		for (int k = 0; k < 4; k++)
			out->data[out->len++] = i + (size_t) k > len ? '=' : alphabet[three >> (18 - 6 * k) & 63];
	}
}

/* A two's-complement number, most significant byte first, with its decimal point moved left. */
static bool
put_decimal(avro_text *out, const uint8_t *data, size_t len, int scale)
{
	uint32_t	limbs[MAX_DECIMAL / 4 + 1] = {0};	/* magnitude, least significant first */
	int			n_limbs = (int) (len + 3) / 4;
	bool		negative = len > 0 && data[0] >= 0x80;
	char		digits[MAX_DECIMAL * 3];
	int			n = 0;

	if (len > MAX_DECIMAL)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		uint8_t		b = data[len - 1 - i];

		limbs[i / 4] |= (uint32_t) (negative ? (uint8_t) ~b : b) << (i % 4 * 8);
	}
	if (negative)
		for (int i = 0; i <= n_limbs && ++limbs[i] == 0; i++)
			;
	n_limbs++;					/* -2^k needs one bit more */
	while (n_limbs > 0)
	{
		uint64_t	rest = 0;

		for (int i = n_limbs - 1; i >= 0; i--)
		{
			rest = rest << 32 | limbs[i];
			limbs[i] = (uint32_t) (rest / 1000000000);
			rest %= 1000000000;
		}
		while (n_limbs > 0 && limbs[n_limbs - 1] == 0)
			n_limbs--;
		for (int k = 0; k < 9 && (n_limbs > 0 || rest > 0); k++, rest /= 10)
			digits[n++] = (char) ('0' + rest % 10);
	}

	/* Digits are least significant first; there is one before the point at least. */
	if (negative)
		avro_put(out, "-", 1);
	for (int i = (n > scale + 1 ? n : scale + 1) - 1; i >= 0; i--)
	{
		avro_put(out, i < n ? &digits[i] : "0", 1);
		if (i == scale && i > 0)
			avro_put(out, ".", 1);
	}
	return true;
}

bool
avro_put_bytes(avro_text *out, const avro_node *node, const uint8_t *data, size_t len, bool json)
{
	char		text[80];
	int			n = 0;

	if (node->logical == AVRO_DECIMAL)
		return put_decimal(out, data, len, node->scale);
	if (node->type == AVRO_STRING)
	{
		if (json)
			put_string(out, (const char *) data, len);
		else
			avro_put(out, (const char *) data, len);
		return true;
	}
	if (json)
		avro_put(out, "\"", 1);
	if (node->logical == AVRO_UUID)
	{
		for (int i = 0; i < 16; i++)
			n += snprintf(text + n, sizeof(text) - (size_t) n, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", data[i]);
		avro_put(out, text, (size_t) n);
	}
	else if (node->logical == AVRO_DURATION)
	{
		uint32_t	parts[3];

		memcpy(parts, data, sizeof(parts));
		n = snprintf(text, sizeof(text), "%" PRIu32 " months %" PRIu32 " days %" PRIu32 ".%03" PRIu32 " seconds", parts[0], parts[1], parts[2] / 1000, parts[2] % 1000);
		avro_put(out, text, (size_t) n);
	}
	else
		put_base64(out, data, len);
	if (json)
		avro_put(out, "\"", 1);
	return true;
}

/* ---- numbers, dates and times ---- */

/* Year, month and day of days since 1970 (Hinnant's civil_from_days). */
static void
civil(int64_t days, int64_t *year, int *month, int *day)
{
	int64_t		z = days + 719468;
	int64_t		era = (z >= 0 ? z : z - 146096) / 146097;
	int			doe = (int) (z - era * 146097);
	int			yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int			doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int			mp = (5 * doy + 2) / 153;

	*day = doy - (153 * mp + 2) / 5 + 1;
	*month = mp < 10 ? mp + 3 : mp - 9;
	*year = yoe + era * 400 + (*month <= 2);
}

/* "2026-11-21", or "0044-03-15" with " BC" to follow. */
static int
put_date(char *text, size_t size, int64_t days, bool *bc)
{
	int64_t		year;
	int			month;
	int			day;

	civil(days, &year, &month, &day);
	*bc = year <= 0;
	return snprintf(text, size, "%04" PRId64 "-%02d-%02d", *bc ? 1 - year : year, month, day);
}

bool
avro_timestamp(avro_logical logical, int64_t value, int64_t *micros)
{
	int64_t		scaled = value;

	if (logical != AVRO_TIMESTAMP_MILLIS && logical != AVRO_TIMESTAMP_MICROS && logical != AVRO_LOCAL_MILLIS && logical != AVRO_LOCAL_MICROS)
		return false;
	if ((logical == AVRO_TIMESTAMP_MILLIS || logical == AVRO_LOCAL_MILLIS) && __builtin_mul_overflow(value, INT64_C(1000), &scaled))
		return false;
	return !__builtin_sub_overflow(scaled, UNIX_MICROS, micros) && *micros >= MIN_MICROS && *micros < END_MICROS;
}

/* Shortest text that reads back as the same number. */
static int
put_real(char *text, size_t size, double real, bool single)
{
	int			n = 0;

	for (int digits = single ? 6 : 15; digits <= (single ? 9 : 17); digits++)
	{
		n = snprintf(text, size, "%.*g", digits, real);
		if (single ? strtof(text, NULL) == (float) real : strtod(text, NULL) == real)
			break;
	}
	return n;
}

bool
avro_put_scalar(avro_text *out, const avro_node *node, int64_t integer, double real, bool json)
{
	char		text[80];
	int			n = 0;
	int64_t		micros = integer;
	bool		bc = false;
	bool		quoted = true;

	switch (node->logical)
	{
		case AVRO_DATE:
			n = put_date(text, sizeof(text), integer, &bc);
			break;
		case AVRO_TIME_MILLIS:
			micros = integer * 1000;
			/* FALLTHROUGH */
		case AVRO_TIME_MICROS:
			if (micros < 0 || micros > INT64_C(86400000000))
				return false;
			n = snprintf(text, sizeof(text), "%02d:%02d:%02d.%06d", (int) (micros / INT64_C(3600000000)), (int) (micros / 60000000 % 60),
						 (int) (micros / 1000000 % 60), (int) (micros % 1000000));
			break;
		case AVRO_TIMESTAMP_MILLIS:
		case AVRO_TIMESTAMP_MICROS:
		case AVRO_LOCAL_MILLIS:
		case AVRO_LOCAL_MICROS:
			{
				int64_t		days;
				int64_t		in_day;

				if (!avro_timestamp(node->logical, integer, &micros))
					return false;
				days = micros / INT64_C(86400000000) - (micros % INT64_C(86400000000) < 0);
				in_day = micros - days * INT64_C(86400000000);
				n = put_date(text, sizeof(text), days + 10957, &bc);
				n += snprintf(text + n, sizeof(text) - (size_t) n, "T%02d:%02d:%02d.%06d%s", (int) (in_day / INT64_C(3600000000)), (int) (in_day / 60000000 % 60),
							  (int) (in_day / 1000000 % 60), (int) (in_day % 1000000),
							  node->logical == AVRO_TIMESTAMP_MILLIS || node->logical == AVRO_TIMESTAMP_MICROS ? "Z" : "");
				break;
			}
		default:
			quoted = false;
			if (node->type == AVRO_BOOLEAN)
				n = snprintf(text, sizeof(text), integer ? "true" : "false");
			else if (node->type == AVRO_ENUM)
			{
				if (json)
					put_string(out, node->names[integer].text, node->names[integer].len);
				else
					avro_put(out, node->names[integer].text, node->names[integer].len);
				return true;
			}
			else if (node->type == AVRO_FLOAT || node->type == AVRO_DOUBLE)
			{
				/* JSON has no such numbers. */
				quoted = !isfinite(real);
				n = isnan(real) ? snprintf(text, sizeof(text), "NaN") :
					isinf(real) ? snprintf(text, sizeof(text), real < 0 ? "-Infinity" : "Infinity") :
					put_real(text, sizeof(text), real, node->type == AVRO_FLOAT);
			}
			else
				n = snprintf(text, sizeof(text), "%" PRId64, integer);
	}
	if (json && quoted)
		avro_put(out, "\"", 1);
	avro_put(out, text, (size_t) n);
	if (bc)
		avro_put(out, " BC", 3);
	if (json && quoted)
		avro_put(out, "\"", 1);
	return true;
}
