"""What ``authsec run`` does: identities in files for programs that know nothing of SPIFFE, and a word at each rotation.

`settings` says what is wanted (`helper_conf` reads it from spiffe-helper's file), `contents` what the files hold,
`folder` puts them on the disk, `child` and `pid_file` tell the program, `loop` keeps all of it going.
"""
