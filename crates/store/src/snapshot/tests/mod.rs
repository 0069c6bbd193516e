//! What is written is read again; what is damaged is noticed.

mod damage;
mod hostile;
mod merging;
mod round_trip;
mod support;
mod writing;
