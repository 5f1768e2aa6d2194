use crate::http1::serve::{Accepted, Early};
use crate::worker::Worker;
use std::rc::Rc;
pub(crate) async fn serve(_worker: &Rc<Worker>, _accepted: Accepted, _early: Early) {}
