/*
 * directory_pg.c
 *	  Files of a folder on the server: directory_files(), directory_read(), directory_write().
 *
 * For members of pg_read_server_files and pg_write_server_files only, whoever
 * may execute the functions.  Below the folder that the caller names no
 * symbolic link is followed and no path goes up: each step is an openat() with
 * O_NOFOLLOW.  Nothing is overwritten unless asked; then by a rename.
 *
 * Descriptors are closed on every way out (PG_FINALLY); rows are in a tuplestore.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define MAX_DEPTH 16
#define MAX_FILES 10000000
#define PIECE (1 << 20)

PG_FUNCTION_INFO_V1(millrace_directory_files);
PG_FUNCTION_INFO_V1(millrace_directory_read);
PG_FUNCTION_INFO_V1(millrace_directory_write);

static void
check_role(Oid role, const char *name, const char *verb)
{
	if (!has_privs_of_role(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to %s files of the server", verb),
				 errdetail("Only roles with privileges of the \"%s\" role may %s them.", name, verb),
				 role == ROLE_PG_READ_SERVER_FILES ? errhint("Files can come from any client: COPY them into the pipeline's table files, or use tools/millrace-import.")
				 : errhint("Files can go to any client: COPY the rows of export_files(), or use tools/millrace-import --export.")));
}

/* The folder that the caller named, which may itself be a link. */
static int
open_folder(const char *directory)
{
	int			fd;

	if (!is_absolute_path(directory))
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("directory \"%s\" is not an absolute path", directory)));
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open directory \"%s\": %m", directory)));
	return fd;
}

/*
 * Is it a path below a folder?  Relative, and of names that are names.
 */
static void
check_path(const char *path)
{
	const char *p = path;

	for (;;)
	{
		size_t		len = strcspn(p, "/");

		if (len == 0 || len > 255 || (p[0] == '.' && (len == 1 || (len == 2 && p[1] == '.'))))
			ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" is no path within a directory", path)));
		p += len;
		if (*p == '\0')
			return;
		p++;
	}
}

/*
 * Step from folder (which is closed) to the folder of path's last name, *name;
 * make: those that are not there are made.  -1: errno.
 */
static int
step_down(int folder, const char *path, bool make, const char **name)
{
	const char *slash;

	while ((slash = strchr(path, '/')) != NULL)
	{
		char		part[256];
		int			next;

		memcpy(part, path, slash - path);
		part[slash - path] = '\0';
		if (make && mkdirat(folder, part, 0755) != 0 && errno != EEXIST)
			next = -1;
		else
			next = openat(folder, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		{
			int			saved = errno;

			(void) close(folder);
			errno = saved;
		}
		if (next < 0)
			return -1;
		folder = next;
		path = slash + 1;
	}
	*name = path;
	return folder;
}

typedef struct listing
{
	ReturnSetInfo *result;
	int64		files;
} listing;

/* The files of an open folder, which is closed, and of those below it.  prefix ends with a slash, or is empty. */
static void
list_folder(listing *l, int fd, const char *prefix, int depth)
{
	DIR		   *dir = fdopendir(fd);

	if (dir == NULL)
	{
		(void) close(fd);
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read directory \"%s\": %m", prefix)));
	}
	PG_TRY();
	{
		struct dirent *entry;

		while ((errno = 0, entry = readdir(dir)) != NULL)
		{
			const char *problem = NULL;
			char	   *path;
			struct stat st;
			Datum		values[3] = {0};
			bool		nulls[3] = {false, false, true};

			CHECK_FOR_INTERRUPTS();
			if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
				continue;
			if (!pg_verifymbstr(entry->d_name, (int) strlen(entry->d_name), true))
			{
				problem = "invalid_name";
				path = psprintf("%s(a name that is no text)", prefix);
				st.st_size = 0;
			}
			else
			{
				path = psprintf("%s%s", prefix, entry->d_name);
				if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
				{
					if (errno == ENOENT)
						continue;
					problem = "unreadable_file";
					st.st_size = 0;
				}
				else if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
				{
					int			below = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

					if (below >= 0)
					{
						list_folder(l, below, psprintf("%s/", path), depth + 1);
						continue;
					}
					problem = "unreadable_file";
				}
				else if (S_ISDIR(st.st_mode))
					problem = "too_deep";
				else if (S_ISLNK(st.st_mode))
					problem = "symbolic_link";
				else if (!S_ISREG(st.st_mode))
					problem = "no_file";
				else if ((size_t) st.st_size > MaxAllocSize - VARHDRSZ)
					problem = "file_too_large";
			}
			if (++l->files > MAX_FILES)
				ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the directory has more than %d files", MAX_FILES)));
			values[0] = CStringGetTextDatum(path);
			values[1] = Int64GetDatum((int64) st.st_size);
			if (problem)
			{
				values[2] = CStringGetTextDatum(problem);
				nulls[2] = false;
			}
			tuplestore_putvalues(l->result->setResult, l->result->setDesc, values, nulls);
			pfree(path);
		}
		if (errno != 0)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not read directory \"%s\": %m", prefix)));
	}
	PG_FINALLY();
	{
		(void) closedir(dir);
	}
	PG_END_TRY();
}

/* directory_files(directory text) -> table(path text, size bigint, problem text) */
Datum
millrace_directory_files(PG_FUNCTION_ARGS)
{
	listing		l = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	check_role(ROLE_PG_READ_SERVER_FILES, "pg_read_server_files", "read");
	InitMaterializedSRF(fcinfo, 0);
	list_folder(&l, open_folder(text_to_cstring(PG_GETARG_TEXT_PP(0))), "", 0);
	return (Datum) 0;
}

/* directory_read(directory text, path text) -> bytea */
Datum
millrace_directory_read(PG_FUNCTION_ARGS)
{
	char	   *directory = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(1));
	const char *name;
	int			folder;
	int			fd = -1;
	struct stat st;
	bytea	   *volatile result = NULL;

	check_role(ROLE_PG_READ_SERVER_FILES, "pg_read_server_files", "read");
	check_path(path);
	folder = step_down(open_folder(directory), path, false, &name);
	if (folder >= 0)
	{
		int			saved;

		fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		saved = errno;
		(void) close(folder);
		errno = saved;
	}
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\" in \"%s\": %m", path, directory)));
	PG_TRY();
	{
		size_t		done = 0;
		size_t		size;

		if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
			ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" in \"%s\" is not a file", path, directory)));
		if ((size_t) st.st_size > MaxAllocSize - VARHDRSZ)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("file \"%s\" of %zu bytes does not fit in a value", path, (size_t) st.st_size)));
		size = (size_t) st.st_size;
		result = palloc(size + VARHDRSZ);
		while (done < size)
		{
			ssize_t		n = read(fd, VARDATA(result) + done, Min(size - done, PIECE));

			CHECK_FOR_INTERRUPTS();
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\" in \"%s\": %m", path, directory)));
			if (n == 0)
				break;			/* it became shorter */
			done += (size_t) n;
		}
		SET_VARSIZE(result, done + VARHDRSZ);
	}
	PG_FINALLY();
	{
		(void) close(fd);
	}
	PG_END_TRY();
	PG_RETURN_BYTEA_P(result);
}

/* Write all of it; false: errno. */
static bool
write_all(int fd, const char *p, size_t len)
{
	while (len > 0)
	{
		ssize_t		n = write(fd, p, Min(len, PIECE));

		CHECK_FOR_INTERRUPTS();
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		p += n;
		len -= (size_t) n;
	}
	return true;
}

/* directory_write(directory text, path text, content bytea, overwrite boolean = false) -> void */
Datum
millrace_directory_write(PG_FUNCTION_ARGS)
{
	char	   *directory = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(1));
	bytea	   *content = PG_GETARG_BYTEA_PP(2);
	bool		overwrite = PG_GETARG_BOOL(3);
	char		made[64];
	const char *name;
	volatile int folder;
	volatile int fd = -1;
	volatile bool done = false;

	check_role(ROLE_PG_WRITE_SERVER_FILES, "pg_write_server_files", "write");
	check_path(path);
	folder = step_down(open_folder(directory), path, true, &name);
	if (folder < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not make the directory of \"%s\" in \"%s\": %m", path, directory)));
	/* Another's file is replaced by a whole one, or not at all. */
	snprintf(made, sizeof(made), ".millrace-%d.part", MyProcPid);
	PG_TRY();
	{
		const char *target = overwrite ? made : name;

		fd = openat(folder, target, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (overwrite ? O_TRUNC : O_EXCL), 0644);
		if (fd < 0 && errno == EEXIST)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_FILE),
					 errmsg("file \"%s\" in \"%s\" exists", path, directory),
					 errhint("Nothing is overwritten unless asked: overwrite => true.")));
		done = fd >= 0 && write_all(fd, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content)) &&
			(!overwrite || renameat(folder, made, folder, name) == 0);
		if (!done)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\" in \"%s\": %m", path, directory)));
	}
	PG_FINALLY();
	{
		if (fd >= 0)
		{
			(void) close(fd);
			if (!done)
				(void) unlinkat(folder, overwrite ? made : name, 0);
		}
		(void) close(folder);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}
