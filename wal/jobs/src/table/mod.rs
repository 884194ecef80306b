//! Tables: jobs that were added a while ago, sorted by when they are due, in files that never change.
