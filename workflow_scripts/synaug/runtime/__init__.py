"""What a job needs whatever its step: errors, logs, files, paths, disk space, devices."""
