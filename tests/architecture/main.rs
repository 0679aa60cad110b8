//! What the code and the documents must keep to, whatever the program does.

mod arrows;
mod documents;
mod rpcs;
mod tree;
mod verbs;
