# log/: third-party libraries of its modules.

log/base.libs := -lxxhash -lzstd -lisal
