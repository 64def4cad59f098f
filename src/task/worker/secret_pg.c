/*
 * secret_pg.c
 *	  Secrets of user mappings.  See secret_pg.h.
 *
 * A file is a name, without slashes, in the folder that setting millrace.secret_directory names.  Only superusers set either (a
 * mapping's secret_file, too: who could name any file could have it sent to a server of his).  What the server reads for its
 * own key goes for these files: regular, no symbolic link, nobody else's, and nobody else may read them
 * (be-secure-common.c, check_ssl_key_file_permissions()).  The content is never part of a message.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"
#include "utils/guc.h"

#include "core/server_pg.h"
#include "task/settings.h"
#include "task/worker/secret_pg.h"

#define MAX_SECRET 8192			/* bytes */

void
tsk_wipe(const char *secret)
{
	if (secret)
		explicit_bzero(unconstify(char *, secret), strlen(secret));
}

/* The setting as millrace.so defines it: what a role may have set before that is loaded is not asked. */
static const char *
secret_directory(void)
{
	const char *value = GetConfigOption(TSK_SECRET_DIRECTORY, true, false);

	if (value == NULL || *value == '\0' || (GetConfigOptionFlags(TSK_SECRET_DIRECTORY, true) & GUC_CUSTOM_PLACEHOLDER) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("option \"secret_file\" needs setting %s", TSK_SECRET_DIRECTORY),
				 errhint("It names the folder of such files, in postgresql.conf.")));
	return value;
}

/* What stands against a file or folder; NULL: nothing. */
static const char *
against(const struct stat *st, bool folder)
{
	if (folder ? !S_ISDIR(st->st_mode) : !S_ISREG(st->st_mode))
		return folder ? "it is no folder" : "it is no regular file";
	if (st->st_uid != geteuid() && st->st_uid != 0)
		return "it belongs neither to the server's user nor to root";
	if (st->st_mode & (folder ? S_IWGRP | S_IWOTH : st->st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO))
		return folder ? "others may write there" : "others may read or write it";
	if (!folder && (st->st_size == 0 || st->st_size > MAX_SECRET))
		return st->st_size == 0 ? "it is empty" : "it is too large";
	return NULL;
}

static void
refuse(const char *name, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("cannot use secret file \"%s\": %s", name, why),
			 errhint("It must be a regular file of the server's user, for nobody else to read, in the folder of setting %s.", TSK_SECRET_DIRECTORY)));
}

/* Read a file into secret; why not, or NULL. */
static const char *
read_secret(int fd, char *secret, size_t size)
{
	struct stat st;
	const char *why;
	ssize_t		n;

	if (fstat(fd, &st) != 0)
		return "it has no status";
	if ((why = against(&st, false)) != NULL)
		return why;
	n = read(fd, secret, size - 1);
	if (n <= 0)
		return "it cannot be read";
	/* as editors and echo leave it */
	if (n > 0 && secret[n - 1] == '\n')
		n--;
	if (n > 0 && secret[n - 1] == '\r')
		n--;
	secret[n] = '\0';
	for (const char *p = secret; p < secret + n; p++)
		if (*p <= ' ' || *p > '~')
			return "it has something else than printable ASCII in one line";
	return n == 0 ? "it is empty" : NULL;
}

static char *
secret_of_file(const char *name)
{
	const char *folder = secret_directory();
	char	   *secret = palloc(MAX_SECRET + 1);
	const char *why = NULL;
	struct stat st;
	int			at,
				fd = -1;

	at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0 || fstat(at, &st) != 0)
		why = "the folder cannot be opened";
	else if ((why = against(&st, true)) != NULL)
		why = psprintf("its folder is not safe: %s", why);
	else if ((fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) < 0)
		why = errno == ENOENT ? "there is none" : errno == ELOOP ? "it is a symbolic link" : "it cannot be opened";
	else if ((why = read_secret(fd, secret, MAX_SECRET + 1)) != NULL)
		explicit_bzero(secret, MAX_SECRET + 1);
	if (fd >= 0)
		close(fd);
	if (at >= 0)
		close(at);
	if (why)
		refuse(name, why);
	return secret;
}

char *
tsk_secret(List *mapping, const char *option)
{
	const char *literal = mr_option_value(mapping, option);
	const char *file = mr_option_value(mapping, "secret_file");

	if (literal)
		return pstrdup(literal);
	return file ? secret_of_file(file) : NULL;
}
