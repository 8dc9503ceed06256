//! Pages, the index, batches.

use aws_sdk_dynamodb::types::{
    DeleteRequest, KeysAndAttributes, PutRequest, ReturnConsumedCapacity, Select, WriteRequest,
};

use super::{Script, TABLE, identity, key, s};

const INDEX: &str = "environment_api_key-identifier-index";

impl Script {
    /// 30 items of 100 KB: three pages.
    pub(super) async fn pages(&mut self) {
        for nth in 0..30 {
            let environment = if nth % 3 == 0 { "env_a" } else { "env_b" };
            let item = identity(environment, &format!("id_{nth:02}"), &[("text", s(&"x".repeat(100_000)))]);
            let put = self.clients.tables.put_item().table_name(TABLE).set_item(Some(item));
            put.send().await.unwrap();
        }
        let mut seen = Vec::new();
        let mut after = None;
        let mut sizes = Vec::new();
        loop {
            let scan = self.clients.tables.scan().table_name(TABLE).consistent_read(true);
            let page = scan.set_exclusive_start_key(after).send().await.unwrap();
            sizes.push(page.items().len());
            seen.extend(page.items().iter().map(|item| item["composite_key"].as_s().unwrap().clone()));
            after = page.last_evaluated_key;
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        assert_eq!((seen.len(), sizes.as_slice()), (30, [11, 11, 8].as_slice()));
        let tables = self.clients.tables.clone();
        let scan = || tables.scan().table_name(TABLE).return_consumed_capacity(ReturnConsumedCapacity::Total);
        ask!(self, "scan count", scan().select(Select::Count).consistent_read(true));
        ask!(self, "scan count, eventually consistent", scan().select(Select::Count));
        self.describe("with items").await;
        ask!(self, "scan limit 0", scan().limit(0));
        ask!(self, "scan segment beyond", scan().segment(2).total_segments(2));
        ask!(self, "scan segment alone", scan().segment(0));
        ask!(self, "scan segments alone", scan().total_segments(2));
        ask!(self, "scan from a wrong key", scan().exclusive_start_key("other", s("x")));
        let mut by_segments = Vec::new();
        for segment in 0..4 {
            let mut after = None;
            loop {
                let page = scan().segment(segment).total_segments(4).set_exclusive_start_key(after).limit(3);
                let page = page.projection_expression("composite_key").send().await.unwrap();
                by_segments
                    .extend(page.items().iter().map(|item| item["composite_key"].as_s().unwrap().clone()));
                after = page.last_evaluated_key;
                if after.is_none() {
                    break;
                }
            }
        }
        by_segments.sort();
        assert_eq!(by_segments, seen);
        let filter =
            scan().filter_expression("environment_api_key = :e").expression_attribute_values(":e", s("none"));
        ask!(self, "scan with a filter", filter);
        self.last_page(&seen).await;
    }

    /// A page that ends with the last item says so, and the next is empty.
    async fn last_page(&mut self, old: &[String]) {
        for id in old {
            let delete = self.clients.tables.delete_item().table_name(TABLE).set_key(Some(key(id)));
            delete.send().await.unwrap();
        }
        for nth in 0..3 {
            self.put(&format!("put small {nth}"), identity("env_s", &format!("{nth}"), &[])).await;
        }
        let tables = self.clients.tables.clone();
        let scan = || tables.scan().table_name(TABLE).return_consumed_capacity(ReturnConsumedCapacity::Total);
        ask!(self, "scan all", scan());
        let exact =
            scan().limit(3).projection_expression("#i").expression_attribute_names("#i", "identifier");
        let page = ask!(self, "scan exactly all", exact).unwrap();
        let rest = scan().set_exclusive_start_key(page.last_evaluated_key);
        ask!(self, "scan behind the last", rest);
    }

    pub(super) async fn index(&mut self) {
        for nth in 0..5 {
            self.put(&format!("put for index {nth}"), identity("env_q", &format!("b{nth}"), &[])).await;
        }
        self.put("put without identifier", {
            let mut item = key("env_q_none");
            item.insert("environment_api_key".to_owned(), s("env_q"));
            item
        })
        .await;
        let query = || {
            let query = self.clients.tables.query().table_name(TABLE).index_name(INDEX);
            let query = query.key_condition_expression("environment_api_key = :e");
            query
                .expression_attribute_values(":e", s("env_q"))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
        };
        ask!(self, "query", query());
        ask!(self, "query consistently", query().consistent_read(true));
        ask!(self, "query backwards", query().scan_index_forward(false).limit(2));
        let first = ask!(self, "query two", query().limit(2)).unwrap();
        ask!(self, "query on", query().set_exclusive_start_key(first.last_evaluated_key));
        let named = query()
            .key_condition_expression("#e = :e AND identifier > :i")
            .expression_attribute_names("#e", "environment_api_key")
            .expression_attribute_values(":i", s("b2"));
        ask!(self, "query from an identifier", named);
        let prefix = query()
            .key_condition_expression("environment_api_key = :e AND begins_with(identifier, :i)")
            .expression_attribute_values(":i", s("b1"));
        ask!(self, "query a prefix", prefix);
        let between = query()
            .key_condition_expression("environment_api_key = :e AND identifier BETWEEN :a AND :b")
            .expression_attribute_values(":a", s("b1"))
            .expression_attribute_values(":b", s("b3"));
        ask!(self, "query a range", between);
        ask!(self, "query count", query().select(Select::Count));
        ask!(self, "query of no such index", query().index_name("other"));
        let missing = query().key_condition_expression("identifier = :e");
        ask!(self, "query without the hash", missing);
        let undefined = query().key_condition_expression("environment_api_key = :none");
        ask!(self, "query with an undefined value", undefined);
    }

    pub(super) async fn batches(&mut self) {
        let keys = |ids: &[&str]| {
            let keys = ids.iter().map(|id| key(id)).collect();
            KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build().unwrap()
        };
        let get =
            || self.clients.tables.batch_get_item().return_consumed_capacity(ReturnConsumedCapacity::Total);
        ask!(self, "batch get", get().request_items(TABLE, keys(&["env_q_b1"])));
        ask!(self, "batch get one of two", get().request_items(TABLE, keys(&["env_q_b1", "env_q_absent"])));
        ask!(self, "batch get doubles", get().request_items(TABLE, keys(&["env_q_b1", "env_q_b1"])));
        ask!(self, "batch get of no such table", get().request_items("other", keys(&["x"])));
        let many: Vec<String> = (0..101).map(|nth| format!("k{nth}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        ask!(self, "batch get too many", get().request_items(TABLE, keys(&many)));
        let put = |id: &str| {
            let request = PutRequest::builder().set_item(Some(identity("env_w", id, &[]))).build().unwrap();
            WriteRequest::builder().put_request(request).build()
        };
        let delete = |id: &str| {
            let request =
                DeleteRequest::builder().set_key(Some(key(&format!("env_w_{id}")))).build().unwrap();
            WriteRequest::builder().delete_request(request).build()
        };
        let write = |requests| self.clients.tables.batch_write_item().request_items(TABLE, requests);
        ask!(self, "batch write", write(vec![put("a"), put("b"), delete("c")]));
        ask!(self, "batch write doubles", write(vec![put("a"), delete("a")]));
        ask!(self, "batch write too many", write((0..26).map(|nth| put(&nth.to_string())).collect()));
        self.get("get after batch", "env_w_b").await;
    }
}
