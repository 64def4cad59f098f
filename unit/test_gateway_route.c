/* Paths, patterns, queries, forms, credentials and rates of the gateway. */
#include "gateway/form.h"
#include "gateway/rate.h"
#include "gateway/route.h"
#include "unit.h"

/* A path as segments joined by |, or "!" if it is none. */
static const char *
split(const char *text)
{
	static char out[4096];
	char	   *copy = strdup(text);
	gw_path		path;

	if (!gw_path_parse(copy, strlen(copy), &path))
		strcpy(out, "!");
	else
	{
		out[0] = '\0';
		for (int i = 0; i < path.n; i++)
		{
			if (i > 0)
				strcat(out, "|");
			strncat(out, path.segment[i].p, path.segment[i].len);
		}
	}
	free(copy);
	return out;
}

static void
paths(void)
{
	static const char *const cases[][2] = {
		{"/", ""}, {"/a", "a"}, {"/a/b", "a|b"}, {"/a%20b/%C3%A9", "a b|\xc3\xa9"}, {"/a%2fb", "a/b"}, {"/a+b", "a+b"},
		{"", "!"}, {"a", "!"}, {"*", "!"}, {"/%", "!"}, {"/%4", "!"}, {"/%4g", "!"}, {"/%00", "!"}, {"/a%00b", "!"}, {"/%ff", "!"}, {"/%C0%AF", "!"},
		{"/..", "!"}, {"/a/../b", "!"}, {"/a/%2e%2E", "!"}, {"/.", "!"}, {"/a/%2e", "!"}, {"/...", "..."}, {"/..a", "..a"}, {"/%252e%252e", "%2e%2e"},
		{"/a%", "!"}, {"/a/b%2", "!"}
	};
	char		many[200] = "";

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(strcmp(split(cases[i][0]), cases[i][1]) == 0, "path %s", cases[i][0]);
	for (int i = 0; i < GW_MAX_SEGMENTS; i++)
		strcat(many, "/x");
	ok(strcmp(split(many), "!") != 0, "%d segments are a path", GW_MAX_SEGMENTS);
	strcat(many, "/x");
	ok(strcmp(split(many), "!") == 0, "one more is none");
}

static void
routes(void)
{
	static const char *const texts[] = {"/", "/a", "/a/{x}", "/a/b", "/{y}/b", "/{y}/{z}", "/a/{x}", "/a/b/c"};
	static const gw_method methods[] = {GW_GET, GW_GET, GW_GET, GW_GET, GW_GET, GW_GET, GW_POST, GW_DELETE};
	static const struct
	{
		const char *path;
		gw_method	method;
		int			found;
		unsigned	allowed;
	}			cases[] = {
		{"/", GW_GET, 0, 1}, {"/a", GW_GET, 1, 1}, {"/a/b", GW_GET, 3, 3}, {"/a/c", GW_GET, 2, 3}, {"/q/b", GW_GET, 4, 1}, {"/q/c", GW_GET, 5, 1},
		{"/a/b", GW_POST, 6, 3}, {"/a/b/c", GW_GET, -1, 1 << GW_DELETE}, {"/a/b", GW_PUT, -1, 3}, {"/nix", GW_GET, -1, 0}, {"/a/", GW_GET, -1, 0},
		{"//", GW_GET, -1, 0}, {"//b", GW_GET, -1, 0}, {"/a//", GW_GET, -1, 0}, {"/A", GW_GET, -1, 0}, {"/a/b", GW_N_METHODS, -1, 3}, {"/a/%62", GW_GET, 3, 3}
	};
	gw_pattern	patterns[8];
	char		allow[64];

	for (int i = 0; i < 8; i++)
	{
		ok(gw_pattern_parse(texts[i], &patterns[i]), "pattern %s", texts[i]);
		patterns[i].method = methods[i];
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = strdup(cases[i].path);
		gw_path		path;
		unsigned	allowed = 99;
		bool		parsed = gw_path_parse(copy, strlen(copy), &path);
		int			found = parsed ? gw_route_match(patterns, 8, &path, cases[i].method, &allowed) : -2;

		ok(found == cases[i].found && allowed == cases[i].allowed, "%s is for pattern %d (%d, methods %x)", cases[i].path, cases[i].found, found, allowed);
		free(copy);
	}
	gw_allow(1 | 1 << GW_DELETE, allow);
	ok(strcmp(allow, "GET, HEAD, DELETE, OPTIONS") == 0, "Allow: %s", allow);
	gw_allow(31, allow);
	ok(strcmp(allow, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS") == 0, "Allow: %s", allow);
}

/* Fields as name=value with their source, joined by ;, or what is wrong. */
static const char *
show(const gw_fields *fields, const char *wrong)
{
	static char out[4096];

	if (wrong)
		return wrong;
	out[0] = '\0';
	for (int i = 0; i < fields->n; i++)
	{
		const gw_field *f = &fields->field[i];

		sprintf(out + strlen(out), "%s%d:%.*s=%.*s", i ? ";" : "", f->source, (int) f->name.len, f->name.p, (int) f->value.len, f->value.p);
		if (f->source == GW_FILE)
			sprintf(out + strlen(out), "(%.*s,%.*s)", (int) f->filename.len, f->filename.p, (int) f->type.len, f->type.p);
	}
	return out;
}

static gw_fields fields;

static void
queries(void)
{
	static const char *const cases[][2] = {
		{"a=b", "1:a=b"}, {"a=b&c=d", "1:a=b;1:c=d"}, {"a=1&a=2", "1:a=1;1:a=2"}, {"a", "1:a="}, {"a=", "1:a="}, {"&&a=b&", "1:a=b"}, {"a=b=c", "1:a=b=c"},
		{"a+b=c+d%2B", "1:a b=c d+"}, {"%C3%A9=%E2%82%AC", "1:\xc3\xa9=\xe2\x82\xac"}, {"a=%26%3D", "1:a=&="}, {"", ""}, {"=x", "1:=x"},
		{"a=%zz", "a parameter has an invalid escape, or is not UTF-8"}, {"a=%00", "a parameter has an invalid escape, or is not UTF-8"},
		{"%ff=1", "a parameter has an invalid escape, or is not UTF-8"}
	};
	char		many[GW_MAX_VALUES * 8 + 16] = "";

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = strdup(cases[i][0]);

		fields.n = 0;
		ok(strcmp(show(&fields, gw_fields_read(copy, strlen(copy), GW_QUERY, &fields)), cases[i][1]) == 0, "query %s: %s", cases[i][0], show(&fields, NULL));
		free(copy);
	}
	for (int i = 0; i <= GW_MAX_VALUES; i++)
		sprintf(many + strlen(many), "a%d=1&", i);
	fields.n = 0;
	ok(gw_fields_read(many, strlen(many), GW_QUERY, &fields) != NULL, "more than %d parameters are refused", GW_MAX_VALUES);
}

static void
forms(void)
{
	static const char *const cases[][2] = {
		{"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--B--\r\n", "2:a=x"},
		{"preamble\r\n--B\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--B--", "2:a="},
		{"--B\r\ncontent-type: image/png \r\ncontent-disposition: form-data; filename=\"x \\\"y\\\".png\"; name=\"f\"\r\n\r\n\r\n--\r\n-B\r\n--B--epilogue", "3:f=\r\n--\r\n-B(x \"y\".png,image/png)"},
		{"--B  \r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2\r\n--B--", "2:a=1;2:b=2"},
		{"--B\r\nContent-Disposition: form-data; name=\"a\"; filename=\"\"\r\n\r\n1\r\n--B--", "3:a=1(,)"},
		{"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n--B--", "2:a="},
		{"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--B", "the form ends before its last boundary"},
		{"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1", "the form ends before its last boundary"},
		{"--B\r\nContent-Disposition: form-data; name=\"a\"", "the form ends before its last boundary"},
		{"--B", "the form ends before its last boundary"}, {"", "the form is not what its Content-Type says"}, {"--C--", "the form is not what its Content-Type says"},
		{"--B\r\n\r\n1\r\n--B--", "a part of the form has no name"},
		{"--B\r\nno colon\r\n\r\n1\r\n--B--", "a part of the form has a malformed header"},
		{"--B\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--B--", "a part of the form has a malformed Content-Disposition"},
		{"--B\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\n1\r\n--B--", "a part is not form-data"},
		{"--B\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B--", "a part of the form has a transfer encoding, which forms have not"},
		{"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\xff\r\n--B--", "a field of the form is not UTF-8"},
		{"--Bx\r\n", "the form is not what its Content-Type says"}, {"--B--", ""}
	};
	gw_bytes	boundary = {"B", 1};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		size_t		len = strlen(cases[i][0]);
		char	   *copy = malloc(len + 1);	/* so that a byte behind it is seen */
		const char *wrong;

		memcpy(copy, cases[i][0], len + 1);
		copy = realloc(copy, len ? len : 1);
		fields.n = 0;
		wrong = gw_multipart_read(copy, len, boundary, &fields);
		ok(strcmp(show(&fields, wrong), cases[i][1]) == 0, "form %zu: %s", i, show(&fields, wrong));
		free(copy);
	}
}

static void
media(void)
{
	static const struct
	{
		const char *text;
		gw_media	media;
		const char *boundary;
		const char *charset;
	}			cases[] = {
		{"application/json", GW_MEDIA_JSON, "", ""}, {"Application/JSON; charset=UTF-8", GW_MEDIA_JSON, "", "UTF-8"}, {"application/vnd.api+json", GW_MEDIA_JSON, "", ""},
		{"application/x-www-form-urlencoded;charset=\"utf-8\"", GW_MEDIA_FORM, "", "utf-8"}, {"multipart/form-data; boundary=----x", GW_MEDIA_MULTIPART, "----x", ""},
		{"multipart/form-data; boundary=\"a b\\\"\"", GW_MEDIA_MULTIPART, "a b\"", ""}, {"multipart/mixed; boundary=x", GW_MEDIA_OTHER, "x", ""},
		{"text/plain", GW_MEDIA_OTHER, "", ""}, {"", GW_MEDIA_NONE, "", ""}, {";", GW_MEDIA_NONE, "", ""}, {"application/jsonp", GW_MEDIA_OTHER, "", ""}, {"+json", GW_MEDIA_OTHER, "", ""}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = strdup(cases[i].text);
		gw_bytes	boundary,
					charset;
		gw_media	m = gw_media_read(copy, &boundary, &charset);

		ok(m == cases[i].media && boundary.len == strlen(cases[i].boundary) && memcmp(boundary.p, cases[i].boundary, boundary.len) == 0 &&
		   charset.len == strlen(cases[i].charset) && memcmp(charset.p, cases[i].charset, charset.len) == 0, "Content-Type: %s", cases[i].text);
		free(copy);
	}
}

static void
credentials(void)
{
	static const struct
	{
		const char *header;
		gw_auth		auth;
		const char *token;
		const char *user;
	}			cases[] = {
		{NULL, GW_AUTH_NONE, "", ""}, {"Bearer abc", GW_AUTH_TOKEN, "abc", ""}, {"bearer   abc", GW_AUTH_TOKEN, "abc", ""}, {"Basic OmFiYw==", GW_AUTH_TOKEN, "abc", ""},
		{"Basic dXNlcjphOmI=", GW_AUTH_TOKEN, "a:b", "user"}, {"Basic dXNlcg==", GW_AUTH_BAD, "", ""}, {"Basic !!", GW_AUTH_BAD, "", ""}, {"Bearer", GW_AUTH_BAD, "", ""},
		{"Bearer ", GW_AUTH_BAD, "", ""}, {"Digest x", GW_AUTH_BAD, "", ""}, {"", GW_AUTH_BAD, "", ""}, {"Basic Og==", GW_AUTH_BAD, "", ""}, {"Bearer a\x01", GW_AUTH_BAD, "", ""}
	};
	char		token[GW_MAX_TOKEN + 1],
				user[GW_MAX_TOKEN + 1];
	char		large[1000];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		gw_auth		auth = gw_auth_read(cases[i].header, token, user);

		ok(auth == cases[i].auth && (auth != GW_AUTH_TOKEN || (strcmp(token, cases[i].token) == 0 && strcmp(user, cases[i].user) == 0)), "Authorization: %s",
		   cases[i].header ? cases[i].header : "(none)");
	}
	memset(large, 'A', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	memcpy(large, "Bearer ", 7);
	ok(gw_auth_read(large, token, user) == GW_AUTH_BAD, "a token that is too long");
	memcpy(large, "Basic  ", 7);
	ok(gw_auth_read(large, token, user) == GW_AUTH_BAD, "a Basic one, too");
	ok(gw_listed("\"a\", \"b\" ,c", "\"b\"") && gw_listed("x", "x") && !gw_listed("xy, yx", "x") && !gw_listed("", "x"), "members of lists");
}

static void
rates(void)
{
	static gw_rate rate;
	int			wait = 0,
				passed = 0;

	for (int i = 0; i < 100; i++)
		passed += gw_rate_take(&rate, 1, 0, 60, 1000000, &wait);
	ok(passed == 60 && wait == 2, "sixty of a hundred at once: %d, again in %d s", passed, wait);
	ok(gw_rate_take(&rate, 2, 0, 60, 1000000, &wait) && gw_rate_take(&rate, 1, 1, 60, 1000000, &wait), "others are not limited by it");
	ok(gw_rate_take(&rate, 1, 0, 60, 2100000, &wait) && !gw_rate_take(&rate, 1, 0, 60, 2100000, &wait), "one more a second later");
	passed = 0;
	for (int i = 0; i < 6000; i++)
		passed += gw_rate_take(&rate, 3, 0, 60, 10000000 + i * 10000, &wait);
	ok(passed >= 119 && passed <= 120, "a hundred a second for a minute: %d", passed);
	passed = 0;
	for (int i = 0; i < 100000; i++)
		passed += gw_rate_take(&rate, 1000 + i, 7, 1, 80000000, &wait);
	ok(passed == 100000, "more pairs than places");
}

int
main(void)
{
	paths();
	routes();
	queries();
	forms();
	media();
	credentials();
	rates();
	return done_testing();
}
